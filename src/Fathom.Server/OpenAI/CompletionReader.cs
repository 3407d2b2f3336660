using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>A completion request, read.</summary>
/// <param name="Jobs">Texts to generate: the answers to the first prompt, then those to the next.</param>
/// <param name="Echoes">What each answer begins with: its prompt, where that was asked for.</param>
/// <param name="Model">The name to answer under.</param>
/// <param name="Stream">Whether the answer streams.</param>
/// <param name="StreamUsage">Whether the stream ends with the usage.</param>
/// <param name="User">Whose request it is.</param>
/// <param name="Priority">Of the queue.</param>
internal sealed record CompletionRequest(
    IReadOnlyList<Job> Jobs, IReadOnlyList<string> Echoes, string Model, bool Stream, bool StreamUsage, string? User, int Priority);

/// <summary>Reads completion requests: OpenAI's, with DeepSeek's filling in between prompt and suffix.</summary>
internal static class CompletionReader
{
    private const int MostPrompts = 128, MostIds = 1 << 20, UsualTokens = 16;

    /// <summary>Reads a request.</summary>
    /// <exception cref="ApiException">It is wrong; the message names the field.</exception>
    public static CompletionRequest Read(JsonField body, ModelService service)
    {
        string model = service.ResolveModel(body.Get("model")?.Text());
        (bool stream, bool usage) = SamplingReader.Streaming(body);
        int vocabulary = service.Engine.Model.Model.Config.VocabSize;
        int? logProbs = body.Get("logprobs") is { } wanted ? (int)wanted.Integer(0, SamplingOptions.MostLogProbs) : null;
        SamplingOptions sampling = SamplingReader.Read(body, UsualTokens, vocabulary) with { LogProbs = logProbs };
        if (service.Prompts is null && logProbs is not null) throw ApiException.Value("'logprobs' names tokens by their text, and this model has no tokenizer", "logprobs");
        int n = (int)(body.Get("n")?.Integer(1, service.Options.MaxChoices) ?? 1);
        if (body.Get("best_of") is { } best && best.Integer(1, 1000) != n) throw best.Impossible("must be the same as 'n': all answers are returned");
        string? suffix = body.Get("suffix") is { } given && given.Text() is { Length: > 0 } text ? text : null;
        bool echo = body.Get("echo")?.Boolean() ?? false;
        if (echo && logProbs is not null) throw ApiException.Value("'echo' and 'logprobs' do not go together: the prompt's own probabilities are not computed", "echo");

        IReadOnlyList<(IReadOnlyList<int> Ids, string? Text)> prompts = Prompts(body.Require("prompt"), service, suffix, vocabulary);
        if (prompts.Count * n > service.Options.MaxChoices)
            throw ApiException.Value($"{prompts.Count} prompts with {n} answers each are more than the {service.Options.MaxChoices} that a request may ask for", "prompt");
        List<Job> jobs = [];
        List<string> echoes = [];
        for (int p = 0; p < prompts.Count; p++)
        {
            (IReadOnlyList<int> ids, string? prompt) = prompts[p];
            string echoed = !echo ? "" : prompt ?? service.RequirePrompts().Tokenizer.Decode([.. ids.Where(i => i < service.Prompts!.Tokenizer.VocabularySize)]);
            for (int i = 0; i < n; i++)
            {
                jobs.Add(new Job(new ChatPrompt(ids, AnswerStart.Plain, null, prompt ?? ""), SamplingReader.ForChoice(sampling, jobs.Count)) { PromptIndex = p });
                echoes.Add(echoed);
            }
        }

        return new CompletionRequest(jobs, echoes, model, stream, usage, SamplingReader.User(body), SamplingReader.Priority(body));
    }

    /// <summary>A text, texts, tokens, or lists of tokens.</summary>
    private static IReadOnlyList<(IReadOnlyList<int> Ids, string? Text)> Prompts(JsonField prompt, ModelService service, string? suffix, int vocabulary)
    {
        if (prompt.IsString) return [Text(prompt, service, suffix)];
        if (!prompt.IsArray) throw prompt.Wrong("a string or an array");
        if (prompt.Length == 0) throw prompt.Impossible("is empty");
        JsonField first = prompt.Items(MostIds).First();
        if (first.IsNumber) return [Ids(prompt, suffix, vocabulary)];
        return [.. prompt.Items(MostPrompts).Select(item => item.IsString ? Text(item, service, suffix) : Ids(item, suffix, vocabulary))];
    }

    private static (IReadOnlyList<int>, string?) Text(JsonField prompt, ModelService service, string? suffix)
    {
        ChatPromptBuilder prompts = service.RequirePrompts();
        string text = prompt.Text();
        List<int> ids = suffix is null ? prompts.Continue(text) : Jobs.Render("suffix", () => prompts.FillIn(text, suffix));
        return ids.Count > 0 ? (ids, text) : throw prompt.Impossible("is empty: there is nothing to continue from");
    }

    private static (IReadOnlyList<int>, string?) Ids(JsonField prompt, string? suffix, int vocabulary)
    {
        if (suffix is not null) throw ApiException.Value("'suffix' needs a prompt that is text", "suffix");
        int[] ids = [.. prompt.Items(MostIds).Select(id => (int)id.Integer(0, vocabulary - 1))];
        return ids.Length > 0 ? (ids, null) : throw prompt.Impossible("is empty: there is nothing to continue from");
    }
}
