"""What can go wrong, in words for the person who has to fix it. No behaviour."""


class PinbanError(Exception):
    """The root of all our errors. The message is one line and names the remedy."""


class SettingsError(PinbanError):
    """A setting is missing, unknown or out of range; names the file, the key, the value and the remedy."""


class AddressError(PinbanError, ValueError):
    """A text is no address or network that pinban counts."""


class DecodeError(PinbanError, ValueError):
    """Bytes on the channel that no released version of pinban could have written."""


class StoreError(PinbanError):
    """Redis did not do what was asked: away, frozen, full, or refusing."""


class StoreFullError(StoreError):
    """Redis has no memory left for what was asked."""


class ForbiddenError(StoreError):
    """Redis' ACL forbids what was asked."""


class BadDataError(StoreError):
    """A key of ours holds something else than pinban writes."""


class ForgottenError(StoreError):
    """Redis does not know a script (any more); load it and ask again."""


class FirewallError(PinbanError):
    """The kernel's firewall did not do what was asked; names the object and the remedy."""
