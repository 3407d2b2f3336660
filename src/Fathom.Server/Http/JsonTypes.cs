using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Fathom.Server.Http;

/// <summary>What is serialised without reflection.</summary>
[JsonSerializable(typeof(JsonNode))]
internal sealed partial class JsonTypes : JsonSerializerContext;
