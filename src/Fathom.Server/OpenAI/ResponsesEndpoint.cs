// OpenAI's Responses API over the same answers, whole or as its stream of typed, numbered events.
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>POST /v1/responses.</summary>
internal sealed class ResponsesEndpoint(ModelService service, Answering answering)
{
    /// <summary>Answers a request.</summary>
    public async Task HandleAsync(RequestScope scope)
    {
        scope.PromptField = "input";
        ResponsesRequest request = await RequestBody.ReadAsync(scope.Http, service.Options, body => ResponsesReader.Read(body, service)).ConfigureAwait(false);
        AnswerRequest asked = AnswerRequest.Of(request.Dialog, request.Model, request.Stream, service);
        await answering.AnswerAsync(scope, asked, new Reply(request, "resp_" + scope.Id[4..])).ConfigureAwait(false);
    }

    private sealed class Reply(ResponsesRequest request, string id) : AnswerReply
    {
        private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        private readonly Blocks blocks = new();
        private int sequence;

        public override string Text => string.Concat(blocks.All.Where(b => b.Kind == BlockKind.Text).Select(b => b.Text.ToString()));

        private string Status => blocks.End?.Reason switch
        {
            null => "in_progress",
            EndReason.Length or EndReason.Cut => "incomplete",
            _ => "completed",
        };

        public override void Take(AnswerEvent next) => blocks.Take(next);

        public override void WriteWhole(Utf8JsonWriter json, TokenUsage usage) => WriteResponse(json, usage);

        public override async ValueTask BeginAsync(EventStream stream)
        {
            await SendAsync(stream, "response.created", WriteSelf).ConfigureAwait(false);
            await SendAsync(stream, "response.in_progress", WriteSelf).ConfigureAwait(false);
        }

        public override ValueTask SendAsync(EventStream stream, AnswerEvent next) => SendChangeAsync(stream, blocks.Take(next));

        public override ValueTask EndAsync(EventStream stream, TokenUsage usage) => SendAsync(stream, Status == "completed" ? "response.completed" : "response.incomplete", json =>
        {
            json.WritePropertyName("response");
            WriteResponse(json, usage);
        });

        public override ValueTask FailAsync(EventStream stream, ApiException error) => SendAsync(stream, "error", json =>
        {
            json.WriteString("code", error.Code);
            json.WriteString("message", error.Message);
            json.WriteString("param", error.Param);
        });

        private ValueTask SendAsync(EventStream stream, string type, Action<Utf8JsonWriter> write) => stream.SendAsync(
            json =>
            {
                json.WriteStartObject();
                json.WriteString("type", type);
                json.WriteNumber("sequence_number", sequence++);
                write(json);
                json.WriteEndObject();
            },
            type);

        private async ValueTask SendChangeAsync(EventStream stream, BlockChange change)
        {
            if (change.Closed is { } closed) await SendEndAsync(stream, closed).ConfigureAwait(false);
            if (change.Opened is { } opened)
            {
                await SendAsync(stream, "response.output_item.added", json => WriteItemEvent(json, opened, "", "in_progress")).ConfigureAwait(false);
                if (opened.Kind != BlockKind.Call) await SendAsync(stream, "response.content_part.added", json => WritePartEvent(json, opened, "")).ConfigureAwait(false);
            }

            if (change.Delta is not { Length: > 0 } delta) return;
            Block open = blocks.Open!;
            await SendAsync(stream, TextEvent(open) + ".delta", json =>
            {
                WritePlace(json, open);
                json.WriteString("delta", delta);
                WriteNoLogProbs(json, open);
            }).ConfigureAwait(false);
        }

        private async ValueTask SendEndAsync(EventStream stream, Block block)
        {
            string text = block.Text.ToString();
            await SendAsync(stream, TextEvent(block) + ".done", json =>
            {
                WritePlace(json, block);
                if (block.Kind == BlockKind.Call) json.WriteString("name", block.Name);
                json.WriteString(block.Kind == BlockKind.Call ? "arguments" : "text", text);
                WriteNoLogProbs(json, block);
            }).ConfigureAwait(false);
            if (block.Kind != BlockKind.Call) await SendAsync(stream, "response.content_part.done", json => WritePartEvent(json, block, text)).ConfigureAwait(false);
            await SendAsync(stream, "response.output_item.done", json => WriteItemEvent(json, block, text, ItemStatus(block))).ConfigureAwait(false);
        }

        private static string TextEvent(Block block) => block.Kind switch
        {
            BlockKind.Reasoning => "response.reasoning_text",
            BlockKind.Text => "response.output_text",
            _ => "response.function_call_arguments",
        };

        private static string ItemId(Block block) => block.Kind switch { BlockKind.Reasoning => "rs_", BlockKind.Text => "msg_", _ => "fc_" } + block.Id;

        /// <summary>The last item of an answer that was cut is cut too.</summary>
        private string ItemStatus(Block block) => Status == "incomplete" && block == blocks.All[^1] ? "incomplete" : "completed";

        private static void WritePlace(Utf8JsonWriter json, Block block)
        {
            json.WriteString("item_id", ItemId(block));
            json.WriteNumber("output_index", block.Index);
            if (block.Kind != BlockKind.Call) json.WriteNumber("content_index", 0);
        }

        private static void WriteNoLogProbs(Utf8JsonWriter json, Block block)
        {
            if (block.Kind != BlockKind.Text) return;
            json.WriteStartArray("logprobs");
            json.WriteEndArray();
        }

        private static void WriteItemEvent(Utf8JsonWriter json, Block block, string text, string status)
        {
            json.WriteNumber("output_index", block.Index);
            json.WritePropertyName("item");
            WriteItem(json, block, text, status, withPart: status != "in_progress");
        }

        private static void WritePartEvent(Utf8JsonWriter json, Block block, string text)
        {
            WritePlace(json, block);
            json.WritePropertyName("part");
            WritePart(json, block, text);
        }

        private static void WriteItem(Utf8JsonWriter json, Block block, string text, string status, bool withPart = true)
        {
            json.WriteStartObject();
            json.WriteString("id", ItemId(block));
            json.WriteString("type", block.Kind switch { BlockKind.Reasoning => "reasoning", BlockKind.Text => "message", _ => "function_call" });
            json.WriteString("status", status);
            if (block.Kind == BlockKind.Call)
            {
                json.WriteString("call_id", "call_" + block.Id);
                json.WriteString("name", block.Name);
                json.WriteString("arguments", text);
            }
            else
            {
                if (block.Kind == BlockKind.Text)
                {
                    json.WriteString("role", "assistant");
                }
                else
                {
                    json.WriteStartArray("summary");
                    json.WriteEndArray();
                }

                json.WriteStartArray("content");
                if (withPart) WritePart(json, block, text);
                json.WriteEndArray();
            }

            json.WriteEndObject();
        }

        private static void WritePart(Utf8JsonWriter json, Block block, string text)
        {
            json.WriteStartObject();
            json.WriteString("type", block.Kind == BlockKind.Reasoning ? "reasoning_text" : "output_text");
            json.WriteString("text", text);
            if (block.Kind == BlockKind.Text)
            {
                json.WriteStartArray("annotations");
                json.WriteEndArray();
                WriteNoLogProbs(json, block);
            }

            json.WriteEndObject();
        }

        private void WriteSelf(Utf8JsonWriter json)
        {
            json.WritePropertyName("response");
            WriteResponse(json, null);
        }

        private void WriteResponse(Utf8JsonWriter json, TokenUsage? usage)
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("object", "response");
            json.WriteNumber("created_at", created);
            json.WriteString("status", Status);
            json.WriteNull("error");
            if (Status == "incomplete")
            {
                json.WriteStartObject("incomplete_details");
                json.WriteString("reason", blocks.End!.Reason == EndReason.Length ? "max_output_tokens" : "insufficient_system_resource");
                json.WriteEndObject();
            }
            else
            {
                json.WriteNull("incomplete_details");
            }

            json.WriteString("instructions", request.Instructions);
            json.WriteString("model", request.Model);
            json.WriteStartArray("output");
            if (usage is not null)
            {
                foreach (Block block in blocks.All) WriteItem(json, block, block.Text.ToString(), ItemStatus(block));
            }

            json.WriteEndArray();
            WriteEcho(json);
            json.WriteNull("previous_response_id");
            json.WriteBoolean("store", false);
            json.WriteString("truncation", "disabled");
            if (usage is { } used) WriteUsage(json, used);
            else json.WriteNull("usage");
            json.WriteEndObject();
        }

        /// <summary>Fields of the request as they were given, or as they are taken where they were not.</summary>
        private void WriteEcho(Utf8JsonWriter json)
        {
            foreach ((string name, string usual) in new[]
                     {
                         ("max_output_tokens", "null"), ("metadata", "{}"), ("parallel_tool_calls", "true"), ("reasoning", """{"effort":null,"summary":null}"""), ("temperature", "1"),
                         ("text", """{"format":{"type":"text"}}"""), ("tool_choice", "\"auto\""), ("tools", "[]"), ("top_p", "1"),
                     })
            {
                json.WritePropertyName(name);
                if (request.Echo.TryGetPropertyValue(name, out JsonNode? given) && given is not null) given.WriteTo(json);
                else json.WriteRawValue(usual);
            }
        }

        private static void WriteUsage(Utf8JsonWriter json, TokenUsage usage)
        {
            json.WriteStartObject("usage");
            json.WriteNumber("input_tokens", usage.PromptTokens);
            json.WriteStartObject("input_tokens_details");
            json.WriteNumber("cached_tokens", usage.HitTokens);
            json.WriteEndObject();
            json.WriteNumber("output_tokens", usage.OutputTokens);
            json.WriteStartObject("output_tokens_details");
            json.WriteNumber("reasoning_tokens", usage.ReasoningTokens);
            json.WriteEndObject();
            json.WriteNumber("total_tokens", usage.TotalTokens);
            json.WriteEndObject();
        }
    }
}
