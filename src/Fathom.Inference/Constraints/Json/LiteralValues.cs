// The values of enum and const. Numbers, names and strings are spelled in one way; within objects and arrays white space is free.
using System.Text;
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>Builds alternatives of fixed values between two nodes, those that begin alike as one.</summary>
internal sealed class LiteralValues(GrammarBuilder builder, JsonRules rules, int from, int to)
{
    private readonly Dictionary<(int Node, byte Value), int> children = [];

    /// <summary>One more value.</summary>
    public void Add(JsonElement value)
    {
        if (value.ValueKind is JsonValueKind.Object or JsonValueKind.Array)
        {
            Value(from, value, to, 1);
            return;
        }

        int node = from;
        foreach (byte next in Scalar(value))
        {
            if (!children.TryGetValue((node, next), out int child))
            {
                children[(node, next)] = child = builder.Node();
                builder.Bytes(node, next, next, child);
            }

            node = child;
        }

        builder.Jump(node, to);
    }

    private static byte[] Scalar(JsonElement value) =>
        value.ValueKind == JsonValueKind.String ? JsonSpelling.Quoted(value.GetString()!) : Encoding.UTF8.GetBytes(value.GetRawText());

    private void Value(int start, JsonElement value, int end, int depth)
    {
        if (depth > Automaton.MaxDepth) throw new FathomException($"JSON schema: a value of enum or const is nested deeper than {Automaton.MaxDepth} levels");
        if (value.ValueKind is not (JsonValueKind.Object or JsonValueKind.Array))
        {
            builder.Literal(start, Scalar(value), end);
            return;
        }

        bool isObject = value.ValueKind == JsonValueKind.Object;
        int at = builder.Node();
        builder.Character(start, isObject ? '{' : '[', at);
        bool first = true;
        foreach ((string? name, JsonElement item) in isObject ? value.EnumerateObject().Select(p => ((string?)p.Name, p.Value)) : value.EnumerateArray().Select(v => ((string?)null, v)))
        {
            int spaced = builder.Node(), next = builder.Node();
            if (first) rules.WhiteSpace(at, spaced);
            else rules.Separator(at, spaced);
            first = false;
            if (name is not null)
            {
                int named = builder.Node(), colon = builder.Node(), valued = builder.Node();
                builder.Literal(spaced, JsonSpelling.Quoted(name), named);
                rules.Mark(named, ':', colon);
                rules.WhiteSpace(colon, valued);
                spaced = valued;
            }

            Value(spaced, item, next, depth + 1);
            at = next;
        }

        rules.Mark(at, isObject ? '}' : ']', end);
    }
}
