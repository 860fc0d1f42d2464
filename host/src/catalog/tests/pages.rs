//! Pages of a list.

use proptest::prelude::*;

use super::*;

fn list_of(tools: usize) -> Arc<CatalogSnapshot> {
    let names: Vec<String> = (0..tools).map(|number| format!("t{number}")).collect();
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &names.iter().map(String::as_str).collect::<Vec<_>>(), &[], &[], &[]));
    catalog.snapshot()
}

#[test]
fn a_page_that_holds_everything_is_the_list_itself() {
    for tools in [0, 1, 3] {
        let snapshot = list_of(tools);
        let served = snapshot.served(&View::everything());
        let list = served.list(ListKind::Tools);
        assert_eq!(list.page(0, 3), (list.bytes().clone(), None));
    }
}

#[test]
fn a_page_from_behind_the_end_is_empty_and_the_last() {
    let snapshot = list_of(3);
    let served = snapshot.served(&View::everything());
    for from in [3, 4, usize::MAX] {
        let (page, next) = served.list(ListKind::Tools).page(from, 2);
        assert_eq!((&page[..], next), (&b"[]"[..], None), "{from}");
    }
    // A page without room ends where it begins.
    let (page, next) = served.list(ListKind::Tools).page(1, 0);
    assert_eq!((&page[..], next), (&b"[]"[..], Some(1)));
}

proptest! {
    #[test]
    fn pages_hold_every_item_once_and_in_order(tools in 0usize..20, most in 1usize..8) {
        let snapshot = list_of(tools);
        let served = snapshot.served(&View::everything());
        let list = served.list(ListKind::Tools);
        let whole: Vec<Value> = serde_json::from_slice(list.bytes()).unwrap();
        let (mut joined, mut from) = (Vec::new(), Some(0));
        while let Some(position) = from {
            let (page, next) = list.page(position, most);
            let page: Vec<Value> = serde_json::from_slice(&page).unwrap();
            prop_assert!(page.len() <= most && next.is_none_or(|next| next == position + page.len()));
            joined.extend(page);
            from = next;
        }
        prop_assert_eq!(joined, whole);
    }
}
