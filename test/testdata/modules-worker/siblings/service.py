"""Reaches its own files by every name and path that service modules use."""

import json
import os
from dataclasses import dataclass

import EnabledModules.siblings.helper as by_alias
import helper as by_itself
import Services.siblings.deep.inner as inner
import Services.siblings.helper as by_name
from EnabledModules.siblings.deep import inner as inner_by_alias

ServiceConfiguration = None
ServerConfiguration = None


@dataclass
class Point:
    x: "int" = 1


def SERVICE_LOAD_MODELS(models):
    pass


def SERVICE_OFFLOAD_MODELS(models):
    pass


def SERVICE_INFERENCE(name, config, parameters):
    with open("Temp/written.txt", "w") as file:
        file.write("x")
    with open("Services/siblings/data.json") as file:
        first = json.load(file)
    with open("EnabledModules/siblings/data.json") as file:
        second = json.load(file)
    yield {
        "extra": {
            "name": __name__,
            "package": __package__,
            "one_object": by_name is by_alias,
            "inner_one_object": inner is inner_by_alias,
            "helper": by_name.NAME,
            "entry_seen_by_helper": by_name.entry().Point is Point,
            "relative": inner.SIBLING,
            "plain": by_itself.VALUE,
            "data": [first, second],
            "directory": os.getcwd(),
            "point": Point().x,
            "service_configuration": ServiceConfiguration,
            "server_configuration": ServerConfiguration,
        }
    }
