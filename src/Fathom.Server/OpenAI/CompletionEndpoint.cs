// Answers completion requests, whole or as a stream.
using System.Text.Json;
using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Text;

namespace Fathom.Server.OpenAI;

/// <summary>POST /v1/completions.</summary>
internal sealed class CompletionEndpoint(ModelService service, RequestPipeline pipeline)
{
    /// <summary>Answers a request.</summary>
    public async Task HandleAsync(RequestScope scope)
    {
        scope.PromptField = "prompt";
        CompletionRequest request;
        using (JsonDocument body = await RequestBody.ReadAsync(scope.Http, service.Options.MaxBodyBytes, service.Options.BodyDeadline).ConfigureAwait(false))
            request = CompletionReader.Read(new JsonField(body.RootElement, ""), service);
        await using AnswerRun run = AnswerRun.Start(service, scope, request.Jobs, request.User, request.Priority);
        var reply = new Reply(service, request, "cmpl-" + scope.Id[4..]);
        if (request.Stream) await reply.StreamAsync(scope, run).ConfigureAwait(false);
        else await reply.SendAsync(scope, run).ConfigureAwait(false);
        pipeline.LogText(scope, request.Jobs[0].Prompt.Text, reply.Texts);
    }

    private sealed class Reply(ModelService service, CompletionRequest request, string id)
    {
        private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        private readonly Choice[] choices = [.. request.Jobs.Select(_ => new Choice())];
        private readonly int[] offsets = [.. request.Echoes.Select(e => e.Length)]; // of the next token in the text

        public string Texts => string.Join("\n", choices.Select(c => c.Content.ToString()));

        private bool WantsLogProbs => request.Jobs[0].Sampling.LogProbs is not null;

        public async Task SendAsync(RequestScope scope, AnswerRun run)
        {
            await run.FollowAsync(
                next =>
                {
                    choices[next.Choice].Take(next, service.Engine.Model.EosIds);
                    return ValueTask.CompletedTask;
                },
                async () => await JsonReply.KeepAliveAsync(scope.Http).ConfigureAwait(false)).ConfigureAwait(false);
            TokenUsage usage = await run.SettleAsync().ConfigureAwait(false);
            await JsonReply.SendAsync(scope.Http, 200, json =>
            {
                WriteHead(json);
                json.WriteStartArray("choices");
                for (int i = 0; i < choices.Length; i++) WriteChoice(json, i, request.Echoes[i] + choices[i].Content, choices[i].End);
                json.WriteEndArray();
                UsageBody.Write(json, usage);
                json.WriteEndObject();
            }).ConfigureAwait(false);
        }

        public async Task StreamAsync(RequestScope scope, AnswerRun run)
        {
            using var stream = new EventStream(scope.Http);
            bool[] begun = new bool[choices.Length];
            try
            {
                await run.FollowAsync(
                    async next =>
                    {
                        choices[next.Choice].Take(next, service.Engine.Model.EosIds);
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
                    },
                    stream.KeepAliveAsync).ConfigureAwait(false);
            }
            catch (Exception error) when (scope.Http.Response.HasStarted && error is AnswerFailedException or ApiException)
            {
                await stream.SendAsync(json => ErrorBody.Write(json, error as ApiException ?? ApiException.Fault(scope.Id))).ConfigureAwait(false);
                if (error is AnswerFailedException) throw;
                return;
            }

            TokenUsage usage = await run.SettleAsync().ConfigureAwait(false);
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
