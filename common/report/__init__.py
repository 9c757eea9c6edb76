"""What people look at: overlays, contact sheets, the report of a folder, tables, the numbers in documents."""

from common.report.overlay import contact_sheet, overlay
from common.report.report_page import write_report
from common.report.tables import csv_table, fill_markers, markdown_table

__all__ = ["contact_sheet", "csv_table", "fill_markers", "markdown_table", "overlay", "write_report"]
