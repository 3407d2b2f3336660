// Anthropic's Messages API over the same answers, whole or as its stream of named events.
using System.Text.Json;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;

namespace Fathom.Server.Anthropic;

/// <summary>POST /v1/messages and /v1/messages/count_tokens.</summary>
internal sealed class MessagesEndpoint(ModelService service, Answering answering)
{
    /// <summary>Answers a request.</summary>
    public async Task HandleAsync(RequestScope scope)
    {
        (Dialog dialog, string model, bool stream) = await ReadAsync(scope, counting: false).ConfigureAwait(false);
        AnswerRequest asked = AnswerRequest.Of(dialog, model, stream, service);
        await answering.AnswerAsync(scope, asked, new Reply(model, "msg_" + scope.Id[4..], asked.Jobs[0].Prompt.Ids.Count)).ConfigureAwait(false);
    }

    /// <summary>Counts the tokens of a request.</summary>
    public async Task CountAsync(RequestScope scope)
    {
        (Dialog dialog, _, _) = await ReadAsync(scope, counting: true).ConfigureAwait(false);
        int count = Jobs.Prompt(dialog, service).Ids.Count;
        await JsonReply.SendAsync(scope.Http, 200, json =>
        {
            json.WriteStartObject();
            json.WriteNumber("input_tokens", count);
            json.WriteEndObject();
        }).ConfigureAwait(false);
    }

    private Task<(Dialog Dialog, string Model, bool Stream)> ReadAsync(RequestScope scope, bool counting) =>
        RequestBody.ReadAsync(scope.Http, service.Options, body => MessagesReader.Read(body, service, counting));

    private sealed class Reply(string model, string id, int promptTokens) : AnswerReply
    {
        private readonly Blocks blocks = new();

        public override string Text => string.Concat(blocks.All.Where(b => b.Kind == BlockKind.Text).Select(b => b.Text.ToString()));

        public override void Take(AnswerEvent next) => blocks.Take(next);

        public override ValueTask BeginAsync(EventStream stream) => stream.SendAsync(WriteStart, "message_start");

        public override async ValueTask SendAsync(EventStream stream, AnswerEvent next)
        {
            BlockChange change = blocks.Take(next);
            if (change.Closed is { } closed) await stream.SendAsync(json => WriteStop(json, closed), "content_block_stop").ConfigureAwait(false);
            if (change.Opened is { } opened) await stream.SendAsync(json => WriteOpening(json, opened), "content_block_start").ConfigureAwait(false);
            if (change.Delta is { Length: > 0 } delta) await stream.SendAsync(json => WriteDelta(json, blocks.Open!, delta), "content_block_delta").ConfigureAwait(false);
        }

        public override async ValueTask EndAsync(EventStream stream, TokenUsage usage)
        {
            await stream.SendAsync(json => WriteEnd(json, usage), "message_delta").ConfigureAwait(false);
            await stream.SendAsync(
                json =>
                {
                    json.WriteStartObject();
                    json.WriteString("type", "message_stop");
                    json.WriteEndObject();
                },
                "message_stop").ConfigureAwait(false);
        }

        public override ValueTask FailAsync(EventStream stream, ApiException error) => stream.SendAsync(json => AnthropicError.Write(json, error), "error");

        private static string Reason(AnswerEnd end) => end.Reason switch
        {
            EndReason.Length => "max_tokens",
            EndReason.ToolCalls => "tool_use",
            EndReason.Cut => "pause_turn",
            _ => end.Result.StopSequence is null ? "end_turn" : "stop_sequence",
        };

        public override void WriteWhole(Utf8JsonWriter json, TokenUsage usage)
        {
            WriteHead(json);
            json.WriteStartArray("content");
            foreach (Block block in blocks.All) WriteBlock(json, block, block.Text.ToString());
            json.WriteEndArray();
            WriteReason(json, blocks.End);
            WriteUsage(json, usage);
            json.WriteEndObject();
        }

        private void WriteStart(Utf8JsonWriter json)
        {
            json.WriteStartObject();
            json.WriteString("type", "message_start");
            json.WritePropertyName("message");
            WriteHead(json);
            json.WriteStartArray("content");
            json.WriteEndArray();
            WriteReason(json, null);
            WriteUsage(json, new TokenUsage(0, promptTokens, 0, 0)); // what was found in the cache is told at the end
            json.WriteEndObject();
            json.WriteEndObject();
        }

        private void WriteHead(Utf8JsonWriter json)
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("type", "message");
            json.WriteString("role", "assistant");
            json.WriteString("model", model);
        }

        private static void WriteReason(Utf8JsonWriter json, AnswerEnd? end)
        {
            json.WriteString("stop_reason", end is null ? null : Reason(end));
            json.WriteString("stop_sequence", end?.Result.StopSequence);
        }

        private static void WriteUsage(Utf8JsonWriter json, TokenUsage usage)
        {
            json.WriteStartObject("usage");
            json.WriteNumber("input_tokens", usage.MissTokens);
            json.WriteNumber("cache_creation_input_tokens", 0);
            json.WriteNumber("cache_read_input_tokens", usage.HitTokens);
            json.WriteNumber("output_tokens", usage.OutputTokens);
            json.WriteEndObject();
        }

        private static void WriteOpening(Utf8JsonWriter json, Block block)
        {
            json.WriteStartObject();
            json.WriteString("type", "content_block_start");
            json.WriteNumber("index", block.Index);
            json.WritePropertyName("content_block");
            WriteBlock(json, block, "");
            json.WriteEndObject();
        }

        private static void WriteBlock(Utf8JsonWriter json, Block block, string text)
        {
            json.WriteStartObject();
            switch (block.Kind)
            {
                case BlockKind.Reasoning:
                    json.WriteString("type", "thinking");
                    json.WriteString("thinking", text);
                    json.WriteString("signature", "");
                    break;
                case BlockKind.Text:
                    json.WriteString("type", "text");
                    json.WriteString("text", text);
                    break;
                default:
                    json.WriteString("type", "tool_use");
                    json.WriteString("id", "toolu_" + block.Id);
                    json.WriteString("name", block.Name);
                    json.WritePropertyName("input");
                    WriteInput(json, text);
                    json.WriteStartObject("caller"); // the model itself, not a tool of the server
                    json.WriteString("type", "direct");
                    json.WriteEndObject();
                    break;
            }

            json.WriteEndObject();
        }

        /// <summary>Arguments as the object that clients expect; what is no JSON object comes as text within one.</summary>
        private static void WriteInput(Utf8JsonWriter json, string arguments)
        {
            try
            {
                using JsonDocument document = JsonDocument.Parse(arguments.Length == 0 ? "{}" : arguments);
                if (document.RootElement.ValueKind == JsonValueKind.Object)
                {
                    document.RootElement.WriteTo(json);
                    return;
                }
            }
            catch (JsonException)
            {
                // Below.
            }

            json.WriteStartObject();
            json.WriteString("invalid_json", arguments);
            json.WriteEndObject();
        }

        private static void WriteDelta(Utf8JsonWriter json, Block block, string delta)
        {
            (string type, string field) = block.Kind switch
            {
                BlockKind.Reasoning => ("thinking_delta", "thinking"),
                BlockKind.Text => ("text_delta", "text"),
                _ => ("input_json_delta", "partial_json"),
            };
            json.WriteStartObject();
            json.WriteString("type", "content_block_delta");
            json.WriteNumber("index", block.Index);
            json.WriteStartObject("delta");
            json.WriteString("type", type);
            json.WriteString(field, delta);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        private static void WriteStop(Utf8JsonWriter json, Block block)
        {
            json.WriteStartObject();
            json.WriteString("type", "content_block_stop");
            json.WriteNumber("index", block.Index);
            json.WriteEndObject();
        }

        private void WriteEnd(Utf8JsonWriter json, TokenUsage usage)
        {
            json.WriteStartObject();
            json.WriteString("type", "message_delta");
            json.WriteStartObject("delta");
            WriteReason(json, blocks.End);
            json.WriteEndObject();
            WriteUsage(json, usage);
            json.WriteEndObject();
        }
    }
}
