// A conversation as text and as tokens. The trap: encoding an answer's text again need not give the tokens that the model chose, and
// then the cache would not match and every turn would compute the whole conversation. So the ids that were generated are kept, control
// tokens that are no text among them, and only the text that the template adds after them is encoded.
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Cli.Chat;

/// <summary>Messages, and the tokens of what was already said.</summary>
internal sealed class Conversation(Tokenizer tokenizer, ChatTemplate template)
{
    private readonly List<ChatMessage> messages = [];
    private readonly List<int> ids = [];
    private string said = "";

    /// <summary>The system message; setting it starts anew.</summary>
    public string? System
    {
        get;
        set
        {
            field = string.IsNullOrWhiteSpace(value) ? null : value;
            Reset();
        }
    }

    /// <summary>Forgets everything but the system message.</summary>
    public void Reset()
    {
        messages.Clear();
        if (System is not null) messages.Add(new ChatMessage("system", System));
        Forget();
    }

    /// <summary>Adds what the user says.</summary>
    /// <returns>The tokens of the whole conversation up to where the answer begins.</returns>
    /// <exception cref="ChatTemplateException">The template refuses the message; it is not added.</exception>
    public int[] Ask(string text)
    {
        messages.Add(new ChatMessage("user", text));
        string prompt;
        try
        {
            prompt = template.Render(messages, new ChatTemplateOptions { AddGenerationPrompt = true });
        }
        catch (ChatTemplateException)
        {
            messages.RemoveAt(messages.Count - 1);
            throw;
        }

        if (!prompt.StartsWith(said, StringComparison.Ordinal)) Forget();
        tokenizer.Encode(prompt.AsSpan(said.Length), ids);
        said = prompt;
        return ids.Count > 0 ? [.. ids] : throw new FathomException("the chat template gives an empty prompt; use --continue for a model without one");
    }

    /// <summary>Adds what the model answered.</summary>
    /// <param name="text">The answer as it was shown.</param>
    /// <param name="answer">Its tokens, an end token among them.</param>
    public void Answered(string text, IReadOnlyList<int> answer)
    {
        messages.Add(new ChatMessage("assistant", text));
        if (tokenizer.Decode([.. answer], skipSpecial: true) != text)
        {
            Forget(); // cut at a stop string: the tokens say more than the text
            return;
        }

        ids.AddRange(answer);
        said += text;
        if (answer is [.., var last] && last == tokenizer.EosId) said += tokenizer.Decode([last]); // which the template adds, too
    }

    /// <summary>Takes back the last question, after an answer that failed.</summary>
    public void TakeBack()
    {
        messages.RemoveAt(messages.Count - 1);
        Forget();
    }

    private void Forget()
    {
        ids.Clear();
        said = "";
    }
}
