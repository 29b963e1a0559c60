"""``lanpaint serve``: a page with a brush, and the requests under it.

    page/        what the browser loads: one page, one style sheet, small modules; nothing comes from the network
    app          the addresses: the page, jobs, results, the document of the interface
    guard        who may ask: host, origin, token
    uploads      pictures from strangers, checked
    settings     the settings of a task, as one table
    jobs         a bounded fair queue, workers, and jobs that nobody waits for
    work         a job's task, its painter, its result; the command and the Python for it
    shelf        the models that the server was started with
    openapi      the document of the interface

The module is private; :mod:`lanpaint.cli.serve` starts it.
"""
