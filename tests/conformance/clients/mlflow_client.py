"""MLflow's own client of scoring servers."""

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from calls import FEATURES, IRIS, Site, call, equal, refused

CLIENT = "mlflow-skinny"


def client(site: Site) -> ScoringServerClient:
    host, port = site.http.split(":")
    return ScoringServerClient(host, port)


@call(CLIENT, "ping, get_version")
def health(site: Site) -> None:
    one = client(site)
    one.ping()  # It raises where the status is not 200.
    assert one.get_version()


@call(CLIENT, "invoke with a DataFrame, columns in another order")
def frame(site: Site) -> None:
    rows = pd.DataFrame(IRIS, columns=FEATURES)
    expected = site.probabilities
    for columns in (FEATURES, FEATURES[::-1]):
        answer = client(site).invoke(rows[columns])
        equal([list(row) for row in answer.get_predictions().to_numpy().tolist()], expected)


@call(CLIENT, "errors: missing and unknown columns")
def errors(site: Site) -> None:
    rows = pd.DataFrame(IRIS, columns=FEATURES)
    refused(lambda: client(site).invoke(rows[FEATURES[:3]]), Exception, "petal_width")
    refused(lambda: client(site).invoke(rows.assign(weight=1.0)), Exception, "weight")
