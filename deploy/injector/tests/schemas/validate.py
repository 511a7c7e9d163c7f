"""Holds the documents on standard input (a JSON list) against the OpenAPI schemas of the versions of Kubernetes given as
arguments, strictly: unknown fields are errors. Writes a line for each error; exits 1 if there is one."""

import json
import sys

import kubernetes_validate

documents = json.load(sys.stdin)
wrong = 0
for version in sys.argv[1:]:
    for document in documents:
        name = f"{version} {document['kind']}/{document['metadata'].get('name')}"
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except Exception as error:  # whatever it is, the document did not pass
            wrong += 1
            path = ".".join(str(step) for step in getattr(error, "path", []))
            print(f"{name}: {path}: {getattr(error, 'message', error)}")
sys.exit(1 if wrong or not documents else 0)
