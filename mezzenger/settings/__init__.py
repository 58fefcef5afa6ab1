"""The settings of server and client, from arguments, the environment and one YAML file.

Nothing else in Mezzenger knows YAML or the environment. Whatever is wrong is reported at once, with the place where it
was written: ``mezzenger.yaml:12: server.pub_port: must be at most 65535 (got 99999)``.
"""

from mezzenger.settings.channels import ChannelSettings
from mezzenger.settings.models import ClientSettings, Host, ServerSettings, Settings
from mezzenger.settings.resend import ChannelResendSettings, ResendSettings

__all__ = [
    "ChannelResendSettings",
    "ChannelSettings",
    "ClientSettings",
    "Host",
    "ResendSettings",
    "ServerSettings",
    "Settings",
]
