"""JupyterLab, started by `make lab`: the chapters' .md sources open as notebooks."""

c = get_config()  # noqa: F821 - Jupyter defines it where it reads this file

c.ServerApp.contents_manager_class = "jupytext.TextFileContentsManager"
c.ServerApp.root_dir = "."
c.LabApp.default_url = "/lab/tree/book/welcome.md"
