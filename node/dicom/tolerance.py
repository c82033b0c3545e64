"""pydicom takes values as they are, and quotes none of them: what is malformed is found and said by this package.

It has one switch for all threads. It is set when the first module that reads DICOM is loaded, and no stage may change it."""

from pydicom import config

config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
