using System.Globalization;
using System.Text.Json;

namespace Fathom.Server.Accounts;

/// <summary>A key's balance, as DeepSeek's /user/balance has it: amounts are text.</summary>
internal static class BalanceBody
{
    /// <summary>Writes the body. Who has no balance may spend anything, and gets no amounts.</summary>
    public static void Write(Utf8JsonWriter json, Account? account, PriceList prices)
    {
        json.WriteStartObject();
        json.WriteBoolean("is_available", account?.BalanceNano is null or > 0);
        json.WriteStartArray("balance_infos");
        if (account?.BalanceNano is { } nano)
        {
            string amount = (nano / 1e9m).ToString("0.00#######", CultureInfo.InvariantCulture);
            json.WriteStartObject();
            json.WriteString("currency", prices.Currency);
            json.WriteString("total_balance", amount);
            json.WriteString("granted_balance", "0.00");
            json.WriteString("topped_up_balance", amount);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}
