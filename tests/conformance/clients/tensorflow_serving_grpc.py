"""TensorFlow Serving's gRPC API, by tensorflow-serving-api and TensorFlow itself."""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from calls import FEATURES, IRIS, SPECIES, Site, call, equal, refused

CLIENT = "tensorflow-serving-api"


def service(site: Site) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(site.grpc))


def predict_request(model: str = "iris", rows: list = IRIS, **options: object) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["features"].CopyFrom(tf.make_tensor_proto(np.array(rows, np.float32), **options))
    return request


@call(CLIENT, "PredictionService/Predict")
def predict(site: Site) -> None:
    answer = service(site).Predict(predict_request(), timeout=10)
    expected = np.array(site.probabilities, np.float32).tolist()
    equal(tf.make_ndarray(answer.outputs["probabilities"]).tolist(), expected)
    equal((answer.model_spec.name, answer.model_spec.version.value), ("iris", 1))
    # One number a field, as small tensors of other languages come.
    typed = predict_request()
    tensor = typed.inputs["features"]
    tensor.ClearField("tensor_content")
    tensor.float_val.extend(value for row in np.array(IRIS, np.float32) for value in row)
    again = service(site).Predict(typed, timeout=10)
    equal(tf.make_ndarray(again.outputs["probabilities"]).tolist(), expected)


@call(CLIENT, "PredictionService/Predict with a version, output_filter")
def options(site: Site) -> None:
    request = predict_request()
    request.model_spec.version.value = 1
    request.output_filter.append("probabilities")
    answer = service(site).Predict(request, timeout=10)
    equal(list(answer.outputs), ["probabilities"])


def examples(request, rows: list[dict]) -> None:
    for row in rows:
        example = request.input.example_list.examples.add()
        for name, value in row.items():
            example.features.feature[name].float_list.value.extend(value if isinstance(value, list) else [value])


@call(CLIENT, "PredictionService/Classify")
def classify(site: Site) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "iris"
    examples(request, [dict(zip(FEATURES, row)) for row in IRIS])
    answer = service(site).Classify(request, timeout=10)
    best = [max(row.classes, key=lambda one: one.score).label for row in answer.result.classifications]
    equal(best, SPECIES)


@call(CLIENT, "PredictionService/Regress")
def regress(site: Site) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "diabetes"
    examples(request, [{"features": [0.01] * 10}])
    answer = service(site).Regress(request, timeout=10)
    expected = np.float32(site.predict("diabetes", [[0.01] * 10])[0][0])
    equal([np.float32(row.value) for row in answer.result.regressions], [expected])


@call(CLIENT, "PredictionService/GetModelMetadata, ModelService/GetModelStatus")
def metadata(site: Site) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "iris"
    answer = service(site).GetModelMetadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    tensor = signatures.signature_def["serving_default"].inputs["features"]
    equal([dim.size for dim in tensor.tensor_shape.dim], [-1, 4])
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "iris"
    models = model_service_pb2_grpc.ModelServiceStub(grpc.insecure_channel(site.grpc))
    status = models.GetModelStatus(request, timeout=10).model_version_status[0]
    equal((status.version, status.state), (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE))


@call(CLIENT, "errors")
def errors(site: Site) -> None:
    def code(request: predict_pb2.PredictRequest, *words: str) -> grpc.StatusCode:
        return refused(lambda: service(site).Predict(request, timeout=10), grpc.RpcError, *words).code()

    equal(code(predict_request("nobody"), "iris"), grpc.StatusCode.NOT_FOUND)
    equal(code(predict_request(rows=[[1, 2]]), "4"), grpc.StatusCode.INVALID_ARGUMENT)
    equal(code(predict_pb2.PredictRequest()), grpc.StatusCode.INVALID_ARGUMENT)
