// A stop sequence must be found however the text is cut, and nothing of it, nor after it, may be shown.
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class StopMatcherTests
{
    [Theory]
    [InlineData("hello END world", "hello ", "END")]
    [InlineData("no stop here", "no stop here", null)]
    [InlineData("EN END", "EN ", "END")]
    [InlineData("aab", "", "aab")]
    [InlineData("aaab", "a", "aab")]
    [InlineData("ends with EN", "ends with EN", null)]
    [InlineData("x###END", "x", "###")]
    public void Every_cut_of_the_text_gives_the_same(string text, string shown, string? met)
    {
        string[] stops = ["END", "aab", "###"];
        for (int first = 0; first <= text.Length; first++)
        {
            for (int second = first; second <= text.Length; second++)
            {
                var matcher = new StopMatcher(stops);
                string result = matcher.Push(text[..first]) + matcher.Push(text[first..second]) + matcher.Push(text[second..]);
                result += matcher.Flush();
                Assert.Equal(shown, result);
                Assert.Equal(met, matcher.Met);
            }
        }
    }
}
