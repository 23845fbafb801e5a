"""What gRPC tools ask of any server: health and reflection."""

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from calls import Site, call, equal, refused


@call("grpcio-health-checking", "Check, Watch")
def health(site: Site) -> None:
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(site.grpc))
    serving = health_pb2.HealthCheckResponse.SERVING
    equal(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status, serving)
    service = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
    equal(stub.Check(service, timeout=10).status, serving)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    equal(next(watch).status, serving)
    watch.cancel()
    unknown = health_pb2.HealthCheckRequest(service="nobody")
    equal(refused(lambda: stub.Check(unknown, timeout=10), grpc.RpcError).code(), grpc.StatusCode.NOT_FOUND)


@call("grpcio-reflection", "services, and a message by its name")
def reflection(site: Site) -> None:
    database = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(site.grpc))
    services = set(database.get_services())
    assert {
        "inference.GRPCInferenceService",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
    } <= services, services
    pool = DescriptorPool(database)
    message = pool.FindMessageTypeByName("inference.ModelInferRequest")
    equal(message.fields_by_name["raw_input_contents"].number, 7)
