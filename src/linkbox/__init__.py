from linkbox.core.wire.framings import Delimited, FixedSize, Framing, LengthPrefixed, Lines, Linked, Raw
from linkbox.core.backoff import Backoff
from linkbox.errors import *
from linkbox.events import *
from linkbox.formats import *
from linkbox.limits import Limits
