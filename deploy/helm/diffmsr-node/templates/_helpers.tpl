{{- define "diffmsr-node.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "diffmsr-node.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "diffmsr-node.labels" -}}
{{ include "diffmsr-node.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "diffmsr-node.check" -}}
{{- if .Values.hosts }}
{{- if not .Values.database.existingSecret }}
{{- fail "hosts: several hosts share one tracker, PostgreSQL; name it in database.existingSecret" }}
{{- end }}
{{- if not (or .Values.archive.existingClaim .Values.archive.s3.url) }}
{{- fail "hosts: several hosts share one archive; name it in archive.existingClaim or archive.s3.url" }}
{{- end }}
{{- $taken := list }}
{{- range .Values.hosts }}{{ $taken = concat $taken .roles }}{{ end }}
{{- range $role := list "receive" "match" "infer" "deliver" "housekeep" "web" }}
{{- if not (has $role $taken) }}
{{- fail (printf "hosts: none has the role %s; together they must have all" $role) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
