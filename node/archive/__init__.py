"""The archive: everything durable that is not a row of the tracker."""
