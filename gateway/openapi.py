from gateway.api import Api


def document(api: Api):
    return {"openapi": "3.1.0"}
