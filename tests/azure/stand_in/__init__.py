"""A stand-in for Azure Machine Learning on loopback, for the unmodified SDK: see `stand_in.StandIn`.

It answers management.azure.com and the workspace's other hosts, keeps blobs in Azurite, checks every body against the
published models and can run submitted command jobs. What only the real service can show (roles, quota, image builds,
networking, most of its validation) it cannot show.
"""
