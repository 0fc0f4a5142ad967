"""A kiosk's screen in a browser on the same machine: ``gridswitch kiosk --web``.

    station.py    one customer after the other: what is shown, what may be pressed, what the client library is asked
    views.py      what the page is told and what it may say, typed
    server.py     HTTP on loopback: the page, its state, and acts
    notices.py    notices for customers, from a file of this machine
    page/         one HTML, one CSS, one ES module, and the texts in both languages

The page holds nothing that matters: it shows the state that it is told and says what was pressed. So it may be loaded
again, shown twice, or go away, at any moment. Money is the client library's business alone.
"""
