using Fathom.Training;

namespace Fathom.Cli.Terminal;

/// <summary>Shows a run while it goes on.</summary>
internal interface IRunView : IRunObserver
{
    /// <summary>Trains with the view up.</summary>
    /// <param name="train">The training; returns whether the run reached its end.</param>
    bool Follow(Func<bool> train);

    /// <summary>The view for this terminal: live where it can be redrawn, else lines.</summary>
    /// <param name="stop">Cancelled when the user asked to stop.</param>
    static IRunView Create(CancellationToken stop) => LiveRunView.Fits ? new LiveRunView(stop) : new PlainRunView(stop);
}
