"""Prints a lot."""
import sys


def SERVICE_LOAD_MODELS(Models):
    print("to standard error", file=sys.stderr)
    print("x" * 100_000)
    sys.stdout.write("10%\r20%\r100%\n")
    print("ünïcödé")


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    for number in range(UserParameters["lines"]):
        print(f"line {number} " + "y" * 200)
    yield {"text": "printed"}
