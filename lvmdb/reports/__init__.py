"""Named questions from `sql/reports/`, as tables and pictures."""
