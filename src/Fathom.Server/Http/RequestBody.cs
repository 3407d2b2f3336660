// The body of a request, read whole within bounds of size, depth and time before any of it is believed.
using System.Buffers;
using System.IO.Pipelines;
using System.Text.Json;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Fathom.Server.Http;

/// <summary>Reads JSON bodies.</summary>
internal static class RequestBody
{
    private const int MostDepth = 64;

    /// <summary>
    /// A body up to this many times the limit is read to its end and thrown away: a client that is cut off while it sends sees a broken
    /// connection and not the reason.
    /// </summary>
    private const int Patience = 4;

    /// <summary>What a reader makes of the body.</summary>
    /// <param name="context">The request.</param>
    /// <param name="options">Its limits.</param>
    /// <param name="read">Reads; what it keeps must not be of the document.</param>
    /// <exception cref="ApiException">It is not JSON within the limits, or the reader refuses it.</exception>
    public static async Task<T> ReadAsync<T>(HttpContext context, FathomServerOptions options, Func<JsonField, T> read)
    {
        using JsonDocument body = await ReadAsync(context, options.MaxBodyBytes, options.BodyDeadline).ConfigureAwait(false);
        return read(new JsonField(body.RootElement, ""));
    }

    /// <summary>The body as JSON, to be disposed by the caller.</summary>
    /// <param name="context">The request.</param>
    /// <param name="mostBytes">Longest body.</param>
    /// <param name="deadline">How long it may take to arrive.</param>
    /// <exception cref="ApiException">It is too long, too slow, not UTF-8, not JSON or not an object.</exception>
    public static async Task<JsonDocument> ReadAsync(HttpContext context, long mostBytes, TimeSpan deadline)
    {
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } feature) feature.MaxRequestBodySize = Patience * mostBytes;
        if (context.Request.ContentLength > Patience * mostBytes) throw TooLong(mostBytes);
        using var timer = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        timer.CancelAfter(deadline);
        byte[] body;
        try
        {
            body = await ReadAllAsync(context.Request.BodyReader, mostBytes, timer.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.RequestAborted.IsCancellationRequested)
        {
            throw new ApiException(408, ApiException.InvalidRequest, "request_timeout", $"the body did not arrive within {deadline.TotalSeconds:F0} s");
        }
        catch (BadHttpRequestException error)
        {
            throw error.StatusCode == 413 ? TooLong(mostBytes) : new ApiException(error.StatusCode, ApiException.InvalidRequest, ApiException.InvalidRequest, "the body could not be read: " + error.Message);
        }

        return Parse(body);
    }

    /// <summary>Bytes as a JSON object.</summary>
    internal static JsonDocument Parse(ReadOnlyMemory<byte> body)
    {
        if (!Utf8.IsValid(body.Span)) throw ApiException.Format("the body is not valid UTF-8");
        if (body.Length == 0) throw ApiException.Format("the body is empty; send a JSON object");
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(body, new JsonDocumentOptions { MaxDepth = MostDepth });
        }
        catch (JsonException error)
        {
            throw ApiException.Format($"the body is not valid JSON, line {error.LineNumber + 1}, byte {error.BytePositionInLine + 1}; objects nest at most {MostDepth} deep");
        }

        if (document.RootElement.ValueKind == JsonValueKind.Object) return document;
        document.Dispose();
        throw ApiException.Format("the body must be a JSON object");
    }

    private static async Task<byte[]> ReadAllAsync(PipeReader reader, long mostBytes, CancellationToken cancellation)
    {
        long thrownAway = 0;
        while (true)
        {
            ReadResult result = await reader.ReadAsync(cancellation).ConfigureAwait(false);
            if (thrownAway + result.Buffer.Length > mostBytes)
            {
                thrownAway += result.Buffer.Length;
                reader.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted || thrownAway > Patience * mostBytes) throw TooLong(mostBytes);
            }
            else if (result.IsCompleted)
            {
                byte[] body = result.Buffer.ToArray();
                reader.AdvanceTo(result.Buffer.End);
                return body;
            }
            else
            {
                reader.AdvanceTo(result.Buffer.Start, result.Buffer.End);
            }
        }
    }

    private static ApiException TooLong(long most) =>
        new(413, ApiException.InvalidRequest, "request_too_large", $"the body is longer than the {most} bytes that are taken");
}
