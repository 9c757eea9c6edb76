"""Bundles in MONAI Label: an image opened in 3D Slicer or OHIF, a sentence typed, a mask back, corrections learnt from.

MONAI Label 0.8.5 runs as it is, with its own ``monaibundle`` app; no file of it is changed. What is added:

- :mod:`.served`: the copy of each bundle that the app finds, with the steps of :mod:`.steps` in its transforms
- :mod:`.environment`: what has to be in place before MONAI Label can be imported beside current packages, and the two
  functions that are replaced by name, in the server and in the processes it starts for training
- :mod:`.asgi`: the web application with a gate before it, answers of one line (422) and the page of accepted words
- :mod:`.requests`: what may stand in a request, and what of it no log may hold
- :mod:`.launch`: starts the server

A sentence is data: it goes from the request to :class:`.steps.CheckRequestd` and never into a configuration.
"""
