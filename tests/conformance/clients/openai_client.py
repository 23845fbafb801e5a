"""OpenAI's client. Embeddings come with models of texts; until then it lists what is served."""

import openai

from calls import Site, call, refused


def client(site: Site) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{site.http}/v1", api_key="unused", max_retries=0, timeout=10)


@call("openai", "models.list")
def models(site: Site) -> None:
    names = {model.id for model in client(site).models.list()}
    assert {"iris", "digits"} <= names, names


@call("openai", "embeddings.create: refused, since no model of texts is served")
def embeddings(site: Site) -> None:
    refused(lambda: client(site).embeddings.create(model="iris", input="a"), openai.NotFoundError)
