{%- set start = data_interval_start.start_of("week") -%}
{%- set end = data_interval_end.start_of("week") -%}
-- The balance transactions of one week, summed up per currency and category.
-- SQL has no parameters, so Airflow renders the instants into the text: UTC, without an offset.
select
    currency,
    reporting_category,
    count(*) as transactions,
    sum(amount) as amount,
    sum(fee) as fee,
    sum(net) as net
from balance_transactions
where
    created >= timestamp '{{ start.strftime("%Y-%m-%d %H:%M:%S") }}'
    and created < timestamp '{{ end.strftime("%Y-%m-%d %H:%M:%S") }}'
group by currency, reporting_category
order by currency, reporting_category
