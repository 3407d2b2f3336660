// Argument checks of operators: the first of the layers check, heuristic, launch, kernel. A failed check names the operator,
// the argument, what it is and what it should be.
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>Checks that throw <see cref="ArgumentException"/> before a kernel touches memory.</summary>
public static class Require
{
    /// <summary>The tensor is there and has this type and this many rows (flattened leading dimensions) and columns.</summary>
    public static void Matrix(string op, string name, in Tensor tensor, long rows, long columns, DType dtype = DType.F32)
    {
        if (tensor.IsEmpty || tensor.DType != dtype || tensor.Columns > 0 && tensor.Rows != rows || tensor.Columns != columns)
            Fail(op, name, tensor, $"{dtype} [{rows}, {columns}]");
    }

    /// <summary>The tensor is contiguous, of this type and this many elements.</summary>
    public static void Vector(string op, string name, in Tensor tensor, long elements, DType dtype = DType.F32)
    {
        if (tensor.IsEmpty || tensor.DType != dtype || tensor.Elements != elements || !tensor.IsContiguous)
            Fail(op, name, tensor, $"contiguous {dtype} of {elements} elements");
    }

    /// <summary>The tensor may be written.</summary>
    public static void Writable(string op, string name, in Tensor tensor)
    {
        if (tensor.IsReadOnly) Fail(op, name, tensor, "memory that may be written, not a mapped file");
    }

    /// <summary>Any other condition.</summary>
    public static void That([DoesNotReturnIf(false)] bool condition, string op, string what)
    {
        if (!condition) throw new ArgumentException($"{op}: {what}");
    }

    /// <summary>Any other condition; the text is put together only where it fails, so that a check allocates nothing.</summary>
    public static void That([DoesNotReturnIf(false)] bool condition, string op, [InterpolatedStringHandlerArgument(nameof(condition))] Text what)
    {
        if (!condition) throw new ArgumentException($"{op}: {what}");
    }

    /// <summary>The text of a failed check, empty for one that holds.</summary>
    [InterpolatedStringHandler]
    public readonly struct Text
    {
        private readonly StringBuilder? text;

        /// <summary>Called by the compiler.</summary>
        /// <param name="literalLength">Characters of the literal parts.</param>
        /// <param name="formattedCount">Number of values.</param>
        /// <param name="condition">Whether the check holds.</param>
        /// <param name="wanted">Whether the parts are to be appended.</param>
        public Text(int literalLength, int formattedCount, bool condition, out bool wanted)
        {
            wanted = !condition;
            text = wanted ? new StringBuilder(literalLength + 16 * formattedCount) : null;
        }

        /// <summary>Appends a literal part.</summary>
        public void AppendLiteral(string part) => text!.Append(part);

        /// <summary>Appends a value.</summary>
        public void AppendFormatted<T>(T value) => text!.Append(CultureInfo.InvariantCulture, $"{value}");

        /// <inheritdoc/>
        public override string ToString() => text?.ToString() ?? "";
    }

    [DoesNotReturn]
    private static void Fail(string op, string name, in Tensor tensor, string expected) =>
        throw new ArgumentException($"{op}: {name} is {tensor}, expected {expected}");
}
