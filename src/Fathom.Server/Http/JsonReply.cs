// Answers are written by hand with Utf8JsonWriter: exactly the fields of the dialect, in its order, without reflection.
using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Fathom.Server.Http;

/// <summary>Writes JSON answers.</summary>
internal static class JsonReply
{
    /// <summary>Characters as they are: the content type says that this is JSON, not a web page.</summary>
    public static JsonWriterOptions Options { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Sends a JSON body.</summary>
    /// <param name="context">Of the request. Where the answer has begun with blank lines, its status is sent already.</param>
    /// <param name="status">HTTP status.</param>
    /// <param name="write">Writes one value.</param>
    public static async Task SendAsync(HttpContext context, int status, Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using (var json = new Utf8JsonWriter(buffer, Options)) write(json);
        HttpResponse response = context.Response;
        if (!response.HasStarted)
        {
            response.StatusCode = status;
            response.ContentType = "application/json";
            response.ContentLength = buffer.WrittenCount;
        }

        await response.BodyWriter.WriteAsync(buffer.WrittenMemory, context.RequestAborted).ConfigureAwait(false);
    }

    /// <summary>Begins an answer that is not there yet with a blank line, which JSON allows, so that nobody on the way takes the connection for dead.</summary>
    public static async Task KeepAliveAsync(HttpContext context)
    {
        if (!context.Response.HasStarted) context.Response.ContentType = "application/json";
        await context.Response.BodyWriter.WriteAsync("\n"u8.ToArray(), context.RequestAborted).ConfigureAwait(false);
    }
}
