"""The script that refuses fields which the transcoder would drop or mistake without a word.

Envoy's transcoder ignores what it does not know in a body, takes the last of two equal names, and lets a
query parameter win over the path that was asked for. `guard.lua` holds each request against tables made here:

- `messages`: for each message that a body can hold, its fields by both names that JSON may use, each as
  `{name, kind, message}`. Kind 1 is a message or a list of them, 2 a map; other fields are not looked into.
- `paths`: a tree of path parts, `*` for a variable. At `[1]` of a node stands its rule for each HTTP method:
  the `message` of the body (`raw` when it is a file, neither when there is none), the `field` that the body
  is, the fields `given` by the path, the parameters that the `query` may have, the `action` after the colon.
- `actions`: every action, since only those end a path.
"""

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.api import HTTP_BODY, Api, Binding, Rpc

MESSAGE, MAP = 1, 2
SOURCE = Path(__file__).with_name("guard.lua")

_Table = dict[Any, Any]


def script(api: Api) -> str:
    """The script for an API, whole."""
    messages = _Messages()
    paths: _Table = {}
    actions: _Table = {}
    for rpc in api.exposed:
        for binding in rpc.bindings:
            node = paths
            for segment in binding.segments:
                node = node.setdefault("*" if segment.startswith("{") else segment, {})
            if binding.action:
                actions[binding.action] = True
                node = node.setdefault(binding.action, {})
            node.setdefault(1, {})[binding.verb] = _rule(rpc, binding, messages)
    tables = {"messages": messages.tables(), "paths": paths, "actions": actions}
    return "".join(f"local {name} = {_lua(table)}\n" for name, table in tables.items()) + SOURCE.read_text()


class _Messages:
    """The messages that bodies hold, numbered as they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._tables: dict[int, _Table] = {}

    def number(self, message: Descriptor) -> int:
        """The message's number."""
        known = self._numbers.get(message.full_name)
        if known is None:
            known = self._numbers[message.full_name] = len(self._numbers) + 1
            self._tables[known] = self._fields(message)
        return known

    def tables(self) -> list[_Table]:
        """The fields of every message, by its number."""
        return [self._tables[number] for number in sorted(self._tables)]

    def _fields(self, message: Descriptor) -> _Table:
        table: _Table = {}
        for field in message.fields:
            table[field.name] = table[field.json_name] = [field.name, *self._value(field)]
        return table

    def _value(self, field: FieldDescriptor) -> list[int]:
        message = field.message_type
        if message is None:
            return []
        if message.GetOptions().map_entry:
            value = message.fields_by_name["value"].message_type
            return [MAP, self.number(value)] if value and _is_ours(value) else [MAP]
        return [MESSAGE, self.number(message)] if _is_ours(message) else []


def _is_ours(message: Descriptor) -> bool:
    """Whether its JSON is an object of its fields; Google's types have a JSON of their own."""
    return not message.full_name.startswith("google.")


def _rule(rpc: Rpc, binding: Binding, messages: _Messages) -> _Table:
    rule: _Table = {
        "query": {
            name: {"repeated": True} if field.is_repeated else {}
            for field in rpc.query(binding)
            for name in (field.name, field.json_name)
        }
    }
    if binding.action:
        rule["action"] = binding.action
    message = rpc.body(binding)
    if message is None:
        return rule
    if message.full_name == HTTP_BODY:
        return {**rule, "raw": True}
    rule["message"] = messages.number(message)
    if binding.body == "*":
        rule["given"] = dict.fromkeys(binding.variables, True)
    else:
        rule["field"] = binding.body
    return rule


def _lua(value: object) -> str:
    """A value as Lua writes it."""
    match value:
        case dict():
            return "{" + ",".join(f"[{_lua(key)}]={_lua(item)}" for key, item in value.items()) + "}"
        case list():
            return "{" + ",".join(_lua(item) for item in value) + "}"
        case _:
            return json.dumps(value)
