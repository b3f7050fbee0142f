"""JSON Schemas of messages, as the gateway writes and reads them, with the limits of their rules."""

from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.api import Api
from portolan.common.v1 import options_pb2

Json = dict[str, Any]

_DURATION = r"^-?[0-9]+(\.[0-9]{1,9})?s$"
_GOOGLES: dict[str, Json] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": _DURATION},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Any": {
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": {"type": "string"}},
    },
    "google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}
_INTEGER = {"type": "integer", "format": "int32"}
_LONG = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_NUMBER = {"type": "number", "format": "double"}
_SCALARS: dict[int, Json] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_INT32: _INTEGER,
    FieldDescriptor.TYPE_UINT32: _INTEGER,
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_UINT64: _LONG,
    FieldDescriptor.TYPE_FLOAT: _NUMBER,
    FieldDescriptor.TYPE_DOUBLE: _NUMBER,
}
_WORDS = {
    "min_len": "minLength",
    "max_len": "maxLength",
    "max_bytes": "maxLength",
    "pattern": "pattern",
    "gte": "minimum",
    "gt": "exclusiveMinimum",
    "lte": "maximum",
    "lt": "exclusiveMaximum",
    "min_items": "minItems",
    "max_items": "maxItems",
    "unique": "uniqueItems",
    "min_pairs": "minProperties",
    "max_pairs": "maxProperties",
    "const": "const",
}
_FORMATS = ("email", "uuid", "hostname", "uri")


class Schemas:
    """The schemas that a document refers to, collected as they are asked for."""

    def __init__(self, api: Api) -> None:
        self._comments = api.comments
        self.components: dict[str, Json] = {}

    def message(self, message: Descriptor, *, partial: bool = False) -> Json:
        """A reference to a message's schema; the one of a `partial` message requires nothing."""
        if message.full_name in _GOOGLES:
            return dict(_GOOGLES[message.full_name])
        name = message.full_name.removeprefix("portolan.") + (".Partial" if partial else "")
        if name not in self.components:
            self.components[name] = {}  # stands while the fields are looked at, which may refer to it
            self.components[name] = self.object(message, partial=partial)
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, message: Descriptor, *, partial: bool = False, without: tuple[str, ...] = ()) -> Json:
        """A message's schema itself, on demand without some of its fields."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Json = {
            "type": "object",
            "properties": {each.name: self.field(each, partial=partial) for each in fields},
        }
        if comment := self._comments.get(message.full_name):
            schema["description"] = comment
        required = [field.name for field in fields if is_required(field)]
        if required and not partial:
            schema["required"] = required
        choices = [
            _choice(oneof.fields, required=not partial and _rules(oneof).required)
            for oneof in _oneofs(message)
        ]
        return {**schema, "allOf": choices} if choices else schema

    def field(self, field: FieldDescriptor, *, partial: bool = False) -> Json:
        """The schema of a field's value, with its comment."""
        schema = {**self._value(field, partial=partial), **_access(field)}
        if comment := self._comments.get(field.full_name):
            schema["description"] = comment
        return schema

    def _value(self, field: FieldDescriptor, *, partial: bool) -> Json:
        rules = field_rules(field)
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            key, value = message.fields_by_name["key"], message.fields_by_name["value"]
            names = {**_SCALARS[key.type], **_limits(rules.map.keys)}
            values = {**self._single(value, partial=partial), **_limits(rules.map.values)}
            return {
                "type": "object",
                "propertyNames": names,
                "additionalProperties": values,
                **_limits(rules),
            }
        single = self._single(field, partial=partial or rules.ignore == validate_pb2.IGNORE_ALWAYS)
        if field.is_repeated:
            return {"type": "array", "items": {**single, **_limits(rules.repeated.items)}, **_limits(rules)}
        return {**single, **_limits(rules)}

    def _single(self, field: FieldDescriptor, *, partial: bool) -> Json:
        if field.message_type is not None:
            return self.message(field.message_type, partial=partial)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Json:
        name = enum.full_name.removeprefix("portolan.")
        names = [value.name for value in enum.values]
        comments = {each: self._comments.get(f"{enum.full_name}.{each}", "") for each in names}
        lines = (f"- `{each}`: {comment}" for each, comment in comments.items())
        description = "\n".join([self._comments.get(enum.full_name, ""), *lines])
        self.components[name] = {"type": "string", "enum": names, "description": description}
        return {"$ref": f"#/components/schemas/{name}"}


def field_rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """The validation rules of a field."""
    options: Any = field.GetOptions()
    rules: validate_pb2.FieldRules = options.Extensions[validate_pb2.field]
    return rules


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without the field breaks its rules."""
    rules = field_rules(field)
    if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return False
    text, items = rules.string, rules.repeated
    return bool(rules.required or text.min_len or text.pattern or text.email or text.uuid or items.min_items)


def _access(field: FieldDescriptor) -> Json:
    options: Any = field.GetOptions()
    behavior = options.Extensions[field_behavior_pb2.field_behavior]
    if options.Extensions[options_pb2.secret] or field_behavior_pb2.INPUT_ONLY in behavior:
        return {"writeOnly": True}
    return {"readOnly": True} if field_behavior_pb2.OUTPUT_ONLY in behavior else {}


def _limits(rules: validate_pb2.FieldRules) -> Json:
    """What JSON Schema can say of the rules of one value."""
    kind = rules.WhichOneof("type")
    if kind is None:
        return {}
    limits: Json = {}
    for rule, value in getattr(rules, kind).ListFields():
        if rule.name in _FORMATS:
            limits["format"] = rule.name
        elif rule.name == "in":
            limits["enum"] = list(value)
        elif rule.name in _WORDS and kind != "int64":  # a long is a string in JSON
            limits[_WORDS[rule.name]] = value
    return limits


def _oneofs(message: Descriptor) -> list[Any]:
    """The choices between several fields; an `optional` field is no choice."""
    return [oneof for oneof in message.oneofs if len(oneof.fields) > 1]


def _rules(oneof: Any) -> validate_pb2.OneofRules:
    rules: validate_pb2.OneofRules = oneof.GetOptions().Extensions[validate_pb2.oneof]
    return rules


def _choice(fields: list[FieldDescriptor], *, required: bool) -> Json:
    """Exactly one of some fields, or at most one."""
    each: list[Json] = [{"required": [field.name]} for field in fields]
    return {"oneOf": each if required else [*each, {"not": {"anyOf": each}}]}
