// Contents of operands that are not plain random numbers. Operands that belong together (a permutation and its inverse) use a seed
// of their own, so that they agree.

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private const int PairedSeed = 4711;

    /// <summary>Integers from low to high - 1 in every element.</summary>
    private static Action<Tensor, Random> Integers(int low, int high) => (tensor, random) =>
    {
        foreach (ref int value in tensor.AsSpan<int>()) value = random.Next(low, high);
    };

    /// <summary>A number that no result can be, in every element of an integer output.</summary>
    private static void PoisonIntegers(Tensor tensor, Random random)
    {
        for (long r = 0; r < tensor.Rows; r++) tensor.Row<int>(r).Fill(int.MinValue);
    }

    /// <summary>K different experts of E a row.</summary>
    private static Action<Tensor, Random> DifferentExperts(int experts) => (tensor, _) =>
    {
        var random = new Random(PairedSeed);
        int[] all = [.. Enumerable.Range(0, experts)];
        for (long r = 0; r < tensor.Rows; r++)
        {
            random.Shuffle(all);
            all.AsSpan(0, (int)tensor.Columns).CopyTo(tensor.Row<int>(r));
        }
    };

    /// <summary>0 to n - 1 in an order that <see cref="InversePermutation"/> undoes.</summary>
    private static void Permutation(Tensor tensor, Random random) => Shuffled((int)tensor.Elements).CopyTo(tensor.AsSpan<int>());

    /// <summary>The inverse of <see cref="Permutation"/>.</summary>
    private static void InversePermutation(Tensor tensor, Random random)
    {
        int[] order = Shuffled((int)tensor.Elements);
        for (int i = 0; i < order.Length; i++) tensor.AsSpan<int>()[order[i]] = i;
    }

    /// <summary>The fill of a tensor from its element's number.</summary>
    private static Action<Tensor, Random> From(Func<long, Random, float> value) => (tensor, random) =>
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            Span<float> row = tensor.Row<float>(r);
            for (int c = 0; c < row.Length; c++) row[c] = value(r * row.Length + c, random);
        }
    };

    private static int[] Shuffled(int count)
    {
        int[] order = [.. Enumerable.Range(0, count)];
        new Random(PairedSeed).Shuffle(order);
        return order;
    }
}
