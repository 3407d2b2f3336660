// Answers completion requests, whole or as a stream.
using System.Text.Json;
using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Metrics;
using Fathom.Text;

namespace Fathom.Server.OpenAI;

/// <summary>POST /v1/completions.</summary>
internal sealed class CompletionEndpoint(ModelService service, Answering answering)
{
    /// <summary>Answers a request.</summary>
    public async Task HandleAsync(RequestScope scope)
    {
        scope.PromptField = "prompt";
        CompletionRequest request = await RequestBody.ReadAsync(scope.Http, service.Options, body => CompletionReader.Read(body, service)).ConfigureAwait(false);
        var asked = new AnswerRequest(request.Jobs, request.Model, request.Stream) { User = request.User, Priority = request.Priority, Operation = RequestTracing.Completion };
        await answering.AnswerAsync(scope, asked, new Reply(service, request, "cmpl-" + scope.Id[4..])).ConfigureAwait(false);
    }

    private sealed class Reply(ModelService service, CompletionRequest request, string id) : AnswerReply
    {
        private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        private readonly Choice[] choices = [.. request.Jobs.Select(_ => new Choice())];
        private readonly bool[] begun = new bool[request.Jobs.Count];
        private readonly int[] offsets = [.. request.Echoes.Select(e => e.Length)]; // of the next token in the text

        public override string Text => string.Join("\n", choices.Select(c => c.Content.ToString()));

        private bool WantsLogProbs => request.Jobs[0].Sampling.LogProbs is not null;

        public override void Take(AnswerEvent next) => choices[next.Choice].Take(next, service.Engine.Model.EosIds);

        public override void WriteWhole(Utf8JsonWriter json, TokenUsage usage)
        {
            WriteHead(json);
            json.WriteStartArray("choices");
            for (int i = 0; i < choices.Length; i++) WriteChoice(json, i, request.Echoes[i] + choices[i].Content, choices[i].End);
            json.WriteEndArray();
            UsageBody.Write(json, usage);
            json.WriteEndObject();
        }

        public override async ValueTask SendAsync(EventStream stream, AnswerEvent next)
        {
            Take(next);
            if (next.Kind == EventKind.Tokens) return; // they go with the next text
            string text = begun[next.Choice] ? next.Text : request.Echoes[next.Choice] + next.Text;
            begun[next.Choice] = true;
            await stream.SendAsync(json =>
            {
                WriteHead(json);
                json.WriteStartArray("choices");
                WriteChoice(json, next.Choice, text, next.End);
                json.WriteEndArray();
                if (request.StreamUsage) json.WriteNull("usage");
                json.WriteEndObject();
            }).ConfigureAwait(false);
            choices[next.Choice].Tokens.Clear();
        }

        public override async ValueTask EndAsync(EventStream stream, TokenUsage usage)
        {
            if (request.StreamUsage)
            {
                await stream.SendAsync(json =>
                {
                    WriteHead(json);
                    json.WriteStartArray("choices");
                    json.WriteEndArray();
                    UsageBody.Write(json, usage);
                    json.WriteEndObject();
                }).ConfigureAwait(false);
            }

            await stream.DoneAsync().ConfigureAwait(false);
        }

        public override ValueTask FailAsync(EventStream stream, ApiException error) => stream.SendAsync(json => ErrorBody.Write(json, error));

        private void WriteHead(Utf8JsonWriter json)
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("object", "text_completion");
            json.WriteNumber("created", created);
            json.WriteString("model", request.Model);
            json.WriteString("system_fingerprint", service.Fingerprint);
        }

        private void WriteChoice(Utf8JsonWriter json, int index, string text, AnswerEnd? end)
        {
            json.WriteStartObject();
            json.WriteNumber("index", index);
            json.WriteString("text", text);
            if (WantsLogProbs && choices[index].Tokens.Count > 0) WriteLogProbs(json, index);
            else json.WriteNull("logprobs");
            json.WriteString("finish_reason", end is null ? null : ChatEndpoint.Reason(end.Reason));
            json.WriteEndObject();
        }

        /// <summary>The old shape: lists side by side.</summary>
        private void WriteLogProbs(Utf8JsonWriter json, int index)
        {
            Tokenizer tokenizer = service.Prompts!.Tokenizer;
            List<GeneratedToken> tokens = choices[index].Tokens;
            json.WriteStartObject("logprobs");
            json.WriteStartArray("tokens");
            foreach (GeneratedToken token in tokens) json.WriteStringValue(LogProbs.Text(tokenizer, token.Id));
            json.WriteEndArray();
            json.WriteStartArray("token_logprobs");
            foreach (GeneratedToken token in tokens) json.WriteNumberValue(LogProbs.Finite(token.LogProb));
            json.WriteEndArray();
            json.WriteStartArray("top_logprobs");
            foreach (GeneratedToken token in tokens)
            {
                json.WriteStartObject();
                // Two tokens may have the same text, half a character each; an object holds it once, the likelier.
                foreach (TokenLogProb other in token.Alternatives.DistinctBy(t => LogProbs.Text(tokenizer, t.Id))) json.WriteNumber(LogProbs.Text(tokenizer, other.Id), LogProbs.Finite(other.LogProb));
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteStartArray("text_offset");
            foreach (GeneratedToken token in tokens)
            {
                json.WriteNumberValue(offsets[index]);
                offsets[index] += LogProbs.Text(tokenizer, token.Id).Length;
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }
    }
}
