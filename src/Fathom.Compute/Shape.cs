// A tensor's dimensions as a small value, so that taking a view allocates nothing.
using System.Runtime.CompilerServices;

namespace Fathom.Compute;

/// <summary>One to four dimensions, slowest first. Sizes are 64-bit: a V3 layer's experts hold 3.8 G elements.</summary>
public readonly struct Shape : IEquatable<Shape>
{
    private readonly Dimensions dims;

    /// <summary>A vector.</summary>
    public Shape(long d0) : this(1, d0, 1, 1, 1) { }

    /// <summary>A matrix.</summary>
    public Shape(long d0, long d1) : this(2, d0, d1, 1, 1) { }

    /// <summary>Three dimensions.</summary>
    public Shape(long d0, long d1, long d2) : this(3, d0, d1, d2, 1) { }

    /// <summary>Four dimensions.</summary>
    public Shape(long d0, long d1, long d2, long d3) : this(4, d0, d1, d2, d3) { }

    /// <summary>From a list of one to four dimensions; an empty list is a scalar, [1].</summary>
    /// <exception cref="ArgumentException">More than four dimensions.</exception>
    public Shape(ReadOnlySpan<long> sizes)
        : this(
            Math.Max(1, sizes.Length),
            sizes.Length > 0 ? sizes[0] : 1,
            sizes.Length > 1 ? sizes[1] : 1,
            sizes.Length > 2 ? sizes[2] : 1,
            sizes.Length > 3 ? sizes[3] : 1)
    {
        if (sizes.Length > 4) throw new ArgumentException($"a tensor has at most 4 dimensions, not {sizes.Length}", nameof(sizes));
    }

    private Shape(int rank, long d0, long d1, long d2, long d3)
    {
        Rank = rank;
        dims[0] = d0;
        dims[1] = d1;
        dims[2] = d2;
        dims[3] = d3;
        for (int i = 0; i < 4; i++) ArgumentOutOfRangeException.ThrowIfNegative(dims[i]);
    }

    /// <summary>Number of dimensions.</summary>
    public int Rank { get; }

    /// <summary>Size of one dimension; a negative index counts from the last.</summary>
    public long this[int index]
    {
        get
        {
            if (index < 0) index += Rank;
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Rank, nameof(index));
            return dims[index];
        }
    }

    /// <summary>Product of all dimensions.</summary>
    public long Elements => Rank == 0 ? 0 : checked(dims[0] * dims[1] * dims[2] * dims[3]);

    /// <summary>Size of the last, contiguous dimension.</summary>
    public long Columns => this[-1];

    /// <summary>Product of all dimensions but the last.</summary>
    public long Rows => Columns == 0 ? 0 : Elements / Columns;

    /// <inheritdoc/>
    public bool Equals(Shape other) =>
        Rank == other.Rank && dims[0] == other.dims[0] && dims[1] == other.dims[1] && dims[2] == other.dims[2] && dims[3] == other.dims[3];

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Shape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Rank, dims[0], dims[1], dims[2], dims[3]);

    /// <summary>Whether both have the same dimensions.</summary>
    public static bool operator ==(Shape left, Shape right) => left.Equals(right);

    /// <summary>Whether any dimension differs.</summary>
    public static bool operator !=(Shape left, Shape right) => !left.Equals(right);

    /// <summary>Written as [2, 3].</summary>
    public override string ToString()
    {
        string text = "[";
        for (int i = 0; i < Rank; i++) text += (i > 0 ? ", " : "") + dims[i].ToString(System.Globalization.CultureInfo.InvariantCulture);
        return text + "]";
    }

    [InlineArray(4)]
    private struct Dimensions
    {
        private long first;
    }
}
