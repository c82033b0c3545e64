"""One file per page. Each reads through the tracker's views, and renders one template."""
