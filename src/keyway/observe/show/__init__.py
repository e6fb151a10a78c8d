"""Values of calls as text for people: what `keyway trace` tells of arguments and results.

What may be secret is told by its length alone: everything that an application hands over or gets back as data, the bytes in a mechanism's
parameter, and the values of attributes, unless the attribute is one of the standard that never holds a secret. Of a PIN not even the
length is told.
"""

from keyway.observe.show.call import requested, returned
from keyway.observe.show.text import Shown

__all__ = ["Shown", "requested", "returned"]
