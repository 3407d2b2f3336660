// Where the products of a matrix multiplication are summed. In FP32 nothing is at stake; Hopper's FP8 tensor cores keep about 14 bits
// of a running sum, and the report (§3.3.2) therefore moves partial sums to FP32 registers every 128 elements of the depth. This says
// which of these a product uses; HopperAccumulator says what the narrow sum is, bit by bit.
using Fathom.Compute.Reference;

namespace Fathom.Compute;

/// <summary>How the sum of a product of quantised operands is formed. The default is FP32.</summary>
public readonly record struct Accumulation
{
    /// <summary>Depth after which the report promotes partial sums to FP32, N_C.</summary>
    public const int PaperInterval = 128;

    private Accumulation(bool isHopper, int? promotionInterval) => (IsHopper, PromotionInterval) = (isHopper, promotionInterval);

    /// <summary>Sums in FP32.</summary>
    public static Accumulation Fp32 => default;

    /// <summary>Hopper's accumulator over the whole depth, never promoted.</summary>
    public static Accumulation HopperWithoutPromotion => new(true, null);

    /// <summary>Whether sums run in an emulation of Hopper's FP8 accumulator.</summary>
    public bool IsHopper { get; }

    /// <summary>Elements of the depth between promotions to FP32; null where nothing is promoted (or all is FP32 anyway).</summary>
    public int? PromotionInterval { get; }

    /// <summary>Hopper's accumulator, promoted to FP32 at regular distances.</summary>
    /// <param name="promotionInterval">Elements of the depth: a multiple of the 32 that one instruction takes.</param>
    /// <exception cref="ArgumentException">Not a positive multiple of 32.</exception>
    public static Accumulation Hopper(int promotionInterval = PaperInterval)
    {
        if (promotionInterval <= 0 || promotionInterval % HopperAccumulator.ProductsPerInstruction != 0)
            throw new ArgumentException($"a promotion interval is a positive multiple of {HopperAccumulator.ProductsPerInstruction}, not {promotionInterval}", nameof(promotionInterval));
        return new(true, promotionInterval);
    }

    /// <summary>
    /// Depth between promotions where scales can stay out of the narrow sum, because no tile ends between two promotions; 0 where
    /// elements have to be multiplied by their scales first.
    /// </summary>
    /// <param name="depth">Length of the sum.</param>
    /// <param name="scaleRun">Elements of the depth that share their scales, in the operand where these are fewer.</param>
    internal long ScaledRun(long depth, long scaleRun)
    {
        long run = Run(depth);
        return run <= scaleRun && (scaleRun >= depth || scaleRun % run == 0) ? run : 0;
    }

    /// <summary>Depth between promotions: the interval, or all of it.</summary>
    internal long Run(long depth) => Math.Min(PromotionInterval ?? depth, depth);

    /// <inheritdoc/>
    public override string ToString() => !IsHopper ? "FP32" : PromotionInterval is { } interval ? $"Hopper, promoted every {interval}" : "Hopper, not promoted";
}
