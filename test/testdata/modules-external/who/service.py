"""Says which container it runs in, after as many seconds as it is asked to take."""

import socket
import time


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    time.sleep(UserParameters.get("seconds", 0))
    yield {"text": socket.gethostname()}
