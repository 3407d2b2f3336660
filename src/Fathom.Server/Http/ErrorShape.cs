using System.Text.Json;

namespace Fathom.Server.Http;

/// <summary>How a dialect tells of errors.</summary>
/// <param name="Write">Writes the body.</param>
/// <param name="Status">The dialect's status for ours.</param>
internal sealed record ErrorShape(Action<Utf8JsonWriter, ApiException> Write, Func<int, int> Status);
