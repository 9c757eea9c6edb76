"""Networks: one file a method, and the blocks and encoders that methods share.

Every network is called as ``network(image, text=None)``:
see :class:`common.networks.base.SegmentationNetwork`.
"""
