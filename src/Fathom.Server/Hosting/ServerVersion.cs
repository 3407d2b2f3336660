using System.Reflection;

namespace Fathom.Server.Hosting;

/// <summary>The version of this program.</summary>
internal static class ServerVersion
{
    /// <summary>As 0.1.0, without the commit.</summary>
    public static string Text { get; } =
        typeof(ServerVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0.0.0";
}
