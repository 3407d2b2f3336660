// Server-sent events by hand (WHATWG HTML §9.2): the in-box formatter knows no comments, and clients look for exactly "data: " and an
// empty line. Every event is flushed: a token that waits in a buffer is late.
using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Fathom.Server.Http;

/// <summary>A stream of events as an answer. Used by one writer at a time.</summary>
internal sealed class EventStream(HttpContext context) : IDisposable
{
    private readonly ArrayBufferWriter<byte> buffer = new(1024);
    private readonly Utf8JsonWriter json = new(Stream.Null, JsonReply.Options);

    /// <summary>Sends an event.</summary>
    /// <param name="write">Writes its data, one JSON value.</param>
    /// <param name="name">Name of the event, where the dialect has them.</param>
    public ValueTask SendAsync(Action<Utf8JsonWriter> write, string? name = null)
    {
        if (name is not null)
        {
            buffer.Write("event: "u8);
            Encoding.UTF8.GetBytes(name.AsSpan(), buffer);
            buffer.Write("\n"u8);
        }

        buffer.Write("data: "u8);
        json.Reset(buffer);
        write(json);
        json.Flush();
        buffer.Write("\n\n"u8);
        return FlushAsync();
    }

    /// <summary>Sends a comment, which clients leave out: the connection is alive.</summary>
    public ValueTask KeepAliveAsync()
    {
        buffer.Write(": keep-alive\n\n"u8);
        return FlushAsync();
    }

    /// <summary>The last event of OpenAI's streams.</summary>
    public ValueTask DoneAsync()
    {
        buffer.Write("data: [DONE]\n\n"u8);
        return FlushAsync();
    }

    public void Dispose() => json.Dispose();

    private async ValueTask FlushAsync()
    {
        HttpResponse response = context.Response;
        if (!response.HasStarted)
        {
            response.ContentType = "text/event-stream";
            response.Headers.CacheControl = "no-cache";
            response.Headers["X-Accel-Buffering"] = "no"; // nginx would collect events otherwise
        }

        FlushResult result = await response.BodyWriter.WriteAsync(buffer.WrittenMemory, context.RequestAborted).ConfigureAwait(false);
        buffer.ResetWrittenCount();
        if (result.IsCompleted) throw new OperationCanceledException("the client has gone");
    }
}
