// What a conversation keeps: the tokens that the model chose, whatever their text would be encoded to.
using Fathom.Cli.Chat;
using Fathom.Testing;
using Fathom.Text;
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class ConversationTests
{
    private const string End = "<｜end▁of▁sentence｜>";
    private static readonly Lazy<Tokenizer> DeepSeek = new(() => Tokenizer.Load(Golden.Shared("tokenizer")));

    [Theory]
    [InlineData("Good day", "")] // cut off at the limit
    [InlineData("Good day", End)]
    [InlineData("", End)]
    [InlineData("Good<｜fim▁hole｜> day", End)] // control tokens of a model that is not trained yet
    [InlineData("Good" + End + " day", "")]
    [InlineData("Good day<｜fim▁hole｜>", "")]
    public void Tokens_of_an_answer_are_kept(string answer, string end)
    {
        Tokenizer tokenizer = DeepSeek.Value;
        var conversation = new Conversation(tokenizer, ChatTemplate.DeepSeekV3);
        int[] first = conversation.Ask("Hello");
        int[] chosen = [.. Letters(answer), .. tokenizer.Encode(end)];
        conversation.Answered(tokenizer.Decode(chosen, skipSpecial: true), chosen);
        int[] second = conversation.Ask("And now?");
        int[] added = tokenizer.Encode($"{(end.Length == 0 ? End : "")}<｜User｜>And now?<｜Assistant｜>");
        Assert.Equal([.. first, .. chosen, .. added], second);

        // As ids that encoding the same text would not give: a token a letter.
        int[] Letters(string text) => [.. text.Split('<', '>').SelectMany((part, i) => i % 2 == 1 ? tokenizer.Encode($"<{part}>") : [.. part.SelectMany(letter => tokenizer.Encode($"{letter}"))])];
    }

    [Fact]
    public void An_answer_that_was_cut_at_a_stop_string_is_encoded_as_it_was_shown()
    {
        Tokenizer tokenizer = DeepSeek.Value;
        var conversation = new Conversation(tokenizer, ChatTemplate.DeepSeekV3);
        conversation.Ask("Hello");
        conversation.Answered("One", tokenizer.Encode("One, two"));
        Assert.Equal(tokenizer.Encode($"<｜begin▁of▁sentence｜><｜User｜>Hello<｜Assistant｜>One{End}<｜User｜>Go on<｜Assistant｜>"), conversation.Ask("Go on"));
    }

    [Fact]
    public void A_question_is_taken_back_and_a_system_message_begins_anew()
    {
        Tokenizer tokenizer = DeepSeek.Value;
        var conversation = new Conversation(tokenizer, ChatTemplate.DeepSeekV3);
        conversation.Ask("Lost");
        conversation.TakeBack();
        Assert.Equal(tokenizer.Encode("<｜begin▁of▁sentence｜><｜User｜>Hello<｜Assistant｜>"), conversation.Ask("Hello"));
        conversation.System = "Be brief.";
        Assert.Equal(tokenizer.Encode("<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hello<｜Assistant｜>"), conversation.Ask("Hello"));
    }
}
