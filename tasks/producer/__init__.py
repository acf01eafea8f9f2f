"""For the API: choose a lane, accept or refuse a request, wait for its end, cancel it.

Imports only ``tasks.protocol``. Load balancing and admission bounds may change without reading anything else; what is
stored may not (``tasks/protocol/lua/accept.lua``).
"""
