// Anthropic's messages and OpenAI's responses are made of blocks that open, grow and close; here an answer's events become those.
using System.Text;

namespace Fathom.Server.Answers;

/// <summary>What a block holds.</summary>
internal enum BlockKind
{
    /// <summary>Reasoning.</summary>
    Reasoning,

    /// <summary>The answer.</summary>
    Text,

    /// <summary>A call.</summary>
    Call,
}

/// <summary>A part of an answer.</summary>
/// <param name="Index">Its place, from 0.</param>
/// <param name="Kind">What it holds.</param>
/// <param name="Name">The function that is called, else empty.</param>
internal sealed record Block(int Index, BlockKind Kind, string Name)
{
    /// <summary>Random, for ids.</summary>
    public string Id { get; } = Guid.NewGuid().ToString("N")[..24];

    /// <summary>Its text, or a call's arguments.</summary>
    public StringBuilder Text { get; } = new();
}

/// <summary>What an event did to the blocks.</summary>
/// <param name="Closed">The block that ended, or null.</param>
/// <param name="Opened">The block that began, or null.</param>
/// <param name="Delta">Text that came to the open block.</param>
internal readonly record struct BlockChange(Block? Closed, Block? Opened, string Delta);

/// <summary>The blocks of one answer.</summary>
internal sealed class Blocks
{
    private readonly List<Block> all = [];

    /// <summary>All blocks, in order.</summary>
    public IReadOnlyList<Block> All => all;

    /// <summary>The block that grows, or null.</summary>
    public Block? Open { get; private set; }

    /// <summary>How the answer ended, or null.</summary>
    public AnswerEnd? End { get; private set; }

    /// <summary>Takes an event.</summary>
    public BlockChange Take(AnswerEvent next)
    {
        switch (next.Kind)
        {
            case EventKind.Reasoning:
                return Grow(BlockKind.Reasoning, next.Text);
            case EventKind.Content:
                return Grow(BlockKind.Text, next.Text);
            case EventKind.CallStart:
                Block? before = Open;
                return new BlockChange(before, Begin(BlockKind.Call, next.Text), "");
            case EventKind.CallArguments:
                Open!.Text.Append(next.Text);
                return new BlockChange(null, null, next.Text);
            case EventKind.End:
                End = next.End;
                Block? last = Open;
                Open = null;
                return new BlockChange(last, null, "");
            default:
                return default;
        }
    }

    private BlockChange Grow(BlockKind kind, string text)
    {
        Block? closed = null, opened = null;
        if (Open?.Kind != kind)
        {
            closed = Open;
            opened = Begin(kind, "");
        }

        Open!.Text.Append(text);
        return new BlockChange(closed, opened, text);
    }

    private Block Begin(BlockKind kind, string name)
    {
        Open = new Block(all.Count, kind, name);
        all.Add(Open);
        return Open;
    }
}
