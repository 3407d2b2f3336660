using System.Text;
using Fathom.Inference;

namespace Fathom.Server.Answers;

/// <summary>A call of a function in an answer.</summary>
/// <param name="Id">For the client to refer to it.</param>
/// <param name="Name">The function.</param>
/// <param name="Arguments">What the model gave, which need not be JSON.</param>
internal sealed record FunctionCall(string Id, string Name, StringBuilder Arguments);

/// <summary>One answer as far as it has come.</summary>
internal sealed class Choice
{
    /// <summary>The answer.</summary>
    public StringBuilder Content { get; } = new();

    /// <summary>The reasoning before it.</summary>
    public StringBuilder Reasoning { get; } = new();

    /// <summary>Calls, in order.</summary>
    public List<FunctionCall> Calls { get; } = [];

    /// <summary>Tokens of the answer whose probabilities were asked for.</summary>
    public List<GeneratedToken> Tokens { get; } = [];

    /// <summary>Those of the reasoning.</summary>
    public List<GeneratedToken> ReasoningTokens { get; } = [];

    /// <summary>Whether there are tokens to be shown.</summary>
    public bool HasTokens => Tokens.Count + ReasoningTokens.Count > 0;

    /// <summary>How it ended, or null.</summary>
    public AnswerEnd? End { get; private set; }

    /// <summary>Takes a step of the answer.</summary>
    /// <param name="next">The step.</param>
    /// <param name="eosIds">Tokens that end a text: they are not part of it.</param>
    public void Take(AnswerEvent next, IReadOnlyList<int> eosIds)
    {
        switch (next.Kind)
        {
            case EventKind.Content:
                Content.Append(next.Text);
                break;
            case EventKind.Reasoning:
                Reasoning.Append(next.Text);
                break;
            case EventKind.CallStart:
                Calls.Add(new FunctionCall($"call_{Guid.NewGuid():N}"[..29], next.Text, new StringBuilder()));
                break;
            case EventKind.CallArguments:
                Calls[next.Call].Arguments.Append(next.Text);
                break;
            case EventKind.Tokens:
                (next.Reasoning ? ReasoningTokens : Tokens).AddRange(next.Tokens.Where(t => !eosIds.Contains(t.Id)));
                break;
            default:
                End = next.End;
                break;
        }
    }
}
