using Fathom.Compute;

namespace Fathom.Model;

/// <summary>Where the layers get their weights from while a model is built: fresh memory, or a checkpoint.</summary>
public interface IParameterSource
{
    /// <summary>A weight of this name and shape.</summary>
    /// <exception cref="Numerics.FathomException">A checkpoint lacks it or has it in another shape.</exception>
    Parameter Get(string name, Shape shape, ParameterRole role);

    /// <summary>A matrix of every expert of a layer.</summary>
    /// <param name="pattern">The name with {0} for the expert.</param>
    /// <param name="experts">E.</param>
    /// <param name="shape">[N, K] of one expert.</param>
    Parameter GetExperts(string pattern, int experts, Shape shape);

    /// <summary>Whether the source has the weights of an MTP module; a checkpoint may come without.</summary>
    bool HasMtpModule(int layer);
}
