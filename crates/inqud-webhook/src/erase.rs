use clap::Args;
use inqud_inbox::{Admin, Erase};
use serde_json::json;

use crate::chain::error_chain;
use crate::out::{Out, Outcome};
use crate::store_args::StoreArgs;

#[derive(Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The id of the object, such as CAPD-1.
    #[arg(long, value_name = "ID", requires = "kind", required_unless_present = "order")]
    object: Option<String>,
    /// The kind of the object, such as `request`, as the lists show it.
    #[arg(long, requires = "object")]
    kind: Option<String>,
    /// Your id of an order: erases all objects that belong to it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["object", "kind", "tenant"])]
    order: Option<String>,
    /// The tenant of the object, if it has one.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Erases notifications that are not settled too. They are never handled.
    #[arg(long)]
    force: bool,
}

impl EraseArgs {
    pub(crate) async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        let mut erase = match (&self.kind, &self.object, &self.order) {
            (Some(kind), Some(object), _) => Erase::object(kind, object),
            (.., Some(order)) => Erase::order(order),
            _ => return Err("name an object and its kind, or an order".into()),
        };
        if let Some(tenant) = &self.tenant {
            erase = erase.tenant(tenant);
        }
        if self.force {
            erase = erase.force();
        }
        let erased = inbox.erase(erase).await.map_err(|error| error_chain(&error))?;
        let for_people = || match erased {
            0 => "nothing found: check the ids\n".to_owned(),
            _ => format!("{erased} notifications erased\n"),
        };
        Ok(out.conclude(erased > 0, for_people, || json!({ "erased": erased }))?)
    }
}
