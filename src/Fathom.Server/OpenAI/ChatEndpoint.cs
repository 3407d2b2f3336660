// Answers chat requests, whole or as a stream.
using System.Text.Json;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>POST /v1/chat/completions.</summary>
internal sealed class ChatEndpoint(ModelService service, Answering answering)
{
    /// <summary>Answers a request.</summary>
    public async Task HandleAsync(RequestScope scope)
    {
        ChatRequest request = await RequestBody.ReadAsync(scope.Http, service.Options, body => ChatReader.Read(body, service)).ConfigureAwait(false);
        AnswerRequest asked = AnswerRequest.Of(request.Dialog, request.Model, request.Stream, service);
        await answering.AnswerAsync(scope, asked, new Reply(service, request, "chatcmpl-" + scope.Id[4..], asked.Jobs)).ConfigureAwait(false);
    }

    /// <summary>OpenAI's word for why an answer ended, with DeepSeek's for what the server cut.</summary>
    internal static string Reason(EndReason reason) => reason switch
    {
        EndReason.Stop => "stop",
        EndReason.ToolCalls => "tool_calls",
        EndReason.Length => "length",
        _ => "insufficient_system_resource",
    };

    private sealed class Reply(ModelService service, ChatRequest request, string id, IReadOnlyList<Job> jobs) : AnswerReply
    {
        private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        private readonly Choice[] choices = [.. jobs.Select(_ => new Choice())];

        public override string Text => string.Join("\n", choices.Select(c => c.Content.ToString()));

        private bool WantsLogProbs => request.Dialog.Sampling.LogProbs is not null;

        public override void Take(AnswerEvent next) => choices[next.Choice].Take(next, service.Engine.Model.EosIds);

        /// <summary>The first delta says who speaks.</summary>
        public override async ValueTask BeginAsync(EventStream stream)
        {
            for (int i = 0; i < choices.Length; i++) await SendDelta(stream, i, WriteFirst, null).ConfigureAwait(false);
        }

        public override async ValueTask EndAsync(EventStream stream, TokenUsage usage)
        {
            if (request.StreamUsage) await stream.SendAsync(json => WriteUsageChunk(json, usage)).ConfigureAwait(false);
            await stream.DoneAsync().ConfigureAwait(false);
        }

        public override ValueTask FailAsync(EventStream stream, ApiException error) => stream.SendAsync(json => ErrorBody.Write(json, error));

        public override async ValueTask SendAsync(EventStream stream, AnswerEvent next)
        {
            Take(next);
            Choice choice = choices[next.Choice];
            switch (next.Kind)
            {
                case EventKind.Tokens:
                    break; // they go with the next text
                case EventKind.Content:
                    await SendDelta(stream, next.Choice, json => json.WriteString("content", next.Text), null).ConfigureAwait(false);
                    break;
                case EventKind.Reasoning:
                    await SendDelta(stream, next.Choice, json => json.WriteString("reasoning_content", next.Text), null).ConfigureAwait(false);
                    break;
                case EventKind.CallStart:
                    await SendDelta(stream, next.Choice, json => WriteCallPart(json, next.Call, choice.Calls[next.Call].Id, next.Text, ""), null).ConfigureAwait(false);
                    break;
                case EventKind.CallArguments:
                    await SendDelta(stream, next.Choice, json => WriteCallPart(json, next.Call, null, null, next.Text), null).ConfigureAwait(false);
                    break;
                default:
                    await SendDelta(stream, next.Choice, _ => { }, next.End).ConfigureAwait(false);
                    break;
            }
        }

        private ValueTask SendDelta(EventStream stream, int index, Action<Utf8JsonWriter> writeDelta, AnswerEnd? end) => stream.SendAsync(json =>
        {
            WriteHead(json, "chat.completion.chunk");
            json.WriteStartArray("choices");
            json.WriteStartObject();
            json.WriteNumber("index", index);
            json.WriteStartObject("delta");
            writeDelta(json);
            json.WriteEndObject();
            Choice choice = choices[index];
            if (WantsLogProbs && choice.HasTokens)
            {
                LogProbs.Write(json, service.Prompts!.Tokenizer, choice.Tokens, choice.ReasoningTokens);
                choice.Tokens.Clear();
                choice.ReasoningTokens.Clear();
            }
            else
            {
                json.WriteNull("logprobs");
            }

            json.WriteString("finish_reason", end is null ? null : Reason(end.Reason));
            json.WriteEndObject();
            json.WriteEndArray();
            if (request.StreamUsage) json.WriteNull("usage");
            json.WriteEndObject();
        });

        private static void WriteFirst(Utf8JsonWriter json)
        {
            json.WriteString("role", "assistant");
            json.WriteString("content", "");
        }

        private void WriteUsageChunk(Utf8JsonWriter json, TokenUsage usage)
        {
            WriteHead(json, "chat.completion.chunk");
            json.WriteStartArray("choices");
            json.WriteEndArray();
            UsageBody.Write(json, usage);
            json.WriteEndObject();
        }

        public override void WriteWhole(Utf8JsonWriter json, TokenUsage usage)
        {
            WriteHead(json, "chat.completion");
            json.WriteStartArray("choices");
            for (int i = 0; i < choices.Length; i++)
            {
                Choice choice = choices[i];
                json.WriteStartObject();
                json.WriteNumber("index", i);
                json.WriteStartObject("message");
                json.WriteString("role", "assistant");
                if (choice.Calls.Count > 0 && choice.Content.Length == 0) json.WriteNull("content");
                else json.WriteString("content", choice.Content.ToString());
                if (choice.Reasoning.Length > 0) json.WriteString("reasoning_content", choice.Reasoning.ToString());
                json.WriteNull("refusal");
                if (choice.Calls.Count > 0) WriteCalls(json, choice);
                json.WriteEndObject();
                if (WantsLogProbs) LogProbs.Write(json, service.Prompts!.Tokenizer, choice.Tokens, choice.ReasoningTokens);
                else json.WriteNull("logprobs");
                json.WriteString("finish_reason", Reason(choice.End!.Reason));
                json.WriteEndObject();
            }

            json.WriteEndArray();
            UsageBody.Write(json, usage);
            json.WriteEndObject();
        }

        private void WriteHead(Utf8JsonWriter json, string type)
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("object", type);
            json.WriteNumber("created", created);
            json.WriteString("model", request.Model);
            json.WriteString("system_fingerprint", service.Fingerprint);
        }

        private static void WriteCalls(Utf8JsonWriter json, Choice choice)
        {
            json.WriteStartArray("tool_calls");
            for (int i = 0; i < choice.Calls.Count; i++) WriteCall(json, i, choice.Calls[i].Id, choice.Calls[i].Name, choice.Calls[i].Arguments.ToString());
            json.WriteEndArray();
        }

        private static void WriteCallPart(Utf8JsonWriter json, int index, string? callId, string? name, string arguments)
        {
            json.WriteStartArray("tool_calls");
            WriteCall(json, index, callId, name, arguments);
            json.WriteEndArray();
        }

        private static void WriteCall(Utf8JsonWriter json, int index, string? callId, string? name, string arguments)
        {
            json.WriteStartObject();
            json.WriteNumber("index", index);
            if (callId is not null)
            {
                json.WriteString("id", callId);
                json.WriteString("type", "function");
            }

            json.WriteStartObject("function");
            if (name is not null) json.WriteString("name", name);
            json.WriteString("arguments", arguments);
            json.WriteEndObject();
            json.WriteEndObject();
        }
    }
}
