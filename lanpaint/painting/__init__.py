"""Tasks, and the painters that turn them into results. The command line, folders and the page all drive these."""

from lanpaint.painting.folder import Summary, paint_folder
from lanpaint.painting.painter import Painter, open_painter
from lanpaint.painting.task import Result, Settings, Task
from lanpaint.painting.watch import Cancelled, Progress

__all__ = ["Cancelled", "Painter", "Progress", "Result", "Settings", "Summary", "Task", "open_painter", "paint_folder"]
